"""The report's page in a real browser: complete offline, quiet, its table sorts, no sideways scroll on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.browser import open_page
from tests.experiment.test_report import write


@pytest.fixture
def page() -> Iterator[Page]:
    with open_page(offline=True) as page:
        yield page


def test_the_page_works_offline_on_a_phone(page: Page, tmp_path: Path) -> None:
    write(tmp_path / "evaluation")
    noises: list[str] = []
    page.on("console", lambda message: noises.append(message.text))
    page.on("pageerror", lambda error: noises.append(str(error)))
    page.on("requestfailed", lambda request: noises.append(request.url))
    page.goto((tmp_path / "evaluation/report.html").as_uri())
    assert page.locator("img").count() == 4
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    head = page.locator("th:has(button)", has_text="Code")
    codes = page.locator("table:has(th button) tbody tr td:first-child")
    orders = []
    for _ in range(2):
        head.locator("button").click()
        orders.append([int(code) for code in codes.all_inner_texts()])
    assert sorted(orders) == [[10, 40, 2905], [2905, 40, 10]]
    assert noises == []
