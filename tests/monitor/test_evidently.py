"""Evidently's page in a real browser without a network, and at data that are not nice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from rakuten.model.reference import Observations, Reference
from rakuten.monitor.evidently_report import Sides, write_page
from tests.browser import open_page
from tests.monitor.records import statistics
from tests.monitor.traffic import Desk, answers, blurred

pytestmark = pytest.mark.acceptance

CODES = (10, 40, 50, "b60")


def rows_of(page: Page) -> dict[str, tuple[str, float]]:
    """Column -> verdict and score of Evidently's table, all its pages."""
    found = {}
    page.wait_for_selector("table tbody tr")
    while True:
        for row in page.query_selector_all("table tbody tr"):
            cells = [each.inner_text().strip() for each in row.query_selector_all("td")]
            filled = [each for each in cells if each]
            if len(filled) >= 5:
                found[filled[0]] = (filled[-3], float(filled[-1]))
        button = page.query_selector("button[aria-label='Next Page']")
        if button is None or button.is_disabled():
            return found
        button.click()
        page.wait_for_timeout(300)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_offline_has_the_figures_of_its_json(desk: Desk) -> None:
    products = [blurred(each) for each in desk.trained.products]
    records = answers(desk.trained.bundle, products, "1", keep=True)
    truth = dict(zip([each.prediction_id for each in records], desk.trained.codes, strict=True))
    desk.write(records, truth)
    [features] = desk.trained.folder.rglob("train_features.csv")
    done = desk.drift("window_products=150", f"reference_texts={features}", "evidently_dir=reports/evidently")
    assert done.returncode == 20, done.stderr
    path = desk.folder / "reports/evidently/evidently_report.html"
    content = json.loads(path.with_suffix(".json").read_text())
    scores = {
        each["config"]["column"]: each["value"] for each in content["drift"] if "column" in each["config"]
    }
    assert {"answer", "confidence", "sharpness", "language", "text"} <= set(scores)
    asked: list[str] = []
    with open_page(offline=True, width=1400, height=1000) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        rows = rows_of(page)
        text = page.inner_text("body")
        link = page.get_attribute("a:has-text('drift.json')", "href")
    assert [each for each in asked if not each.startswith(("file:", "data:", "blob:"))] == []
    assert {name: score for name, (_, score) in rows.items()} == pytest.approx(scores, abs=5e-7)
    [counted] = [each["value"] for each in content["drift"] if "column" not in each["config"]]
    assert sum(verdict == "Detected" for verdict, _ in rows.values()) == counted["count"]
    [accuracy] = [each["value"] for each in content["quality"] if each["metric_name"].startswith("Accuracy")]
    [report] = [each for each in desk.figures["reports"] if each["n"] == 150][:1]
    assert accuracy == pytest.approx(report["true_accuracy"]["value"])
    assert f"{accuracy:.3f}".rstrip("0") in text
    assert "What alarms here are not Evidently's thresholds" in text
    assert link == "../drift/drift.json"


def observed(num: int, classes: list[int], *, photos: bool = True, **changes: Any) -> Observations:
    rng = np.random.default_rng(num)
    probs = rng.dirichlet(np.ones(len(CODES)) * 0.3, num).astype(np.float32)
    for row, top in enumerate(rng.choice(classes, num)):
        probs[row] = np.roll(np.sort(probs[row]), top + 1)
    pictured = {} if photos else dict.fromkeys(
        ("brightness", "contrast", "saturation", "sharpness", "white_share", "image_width", "image_height")
    )  # fmt: skip
    return Observations.of(
        ids=[str(number) for number in range(num)],
        probs=probs,
        statistics=[
            statistics(title_chars=int(rng.integers(5, 90)), **{"has_image": photos, **pictured, **changes})
            for _ in range(num)
        ],
        embeddings={},
    )


def labelled(side: Observations, num: int) -> Observations:
    labels = np.full(len(side), -1)
    labels[:num] = side.predicted[:num]
    return Observations(**{**vars(side), "labels": labels})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("window", "note"),
    [
        (observed(40, [0, 1, 2, 3], photos=False), "brightness, contrast, saturation"),
        (observed(40, [2]), "no feedback"),
        (labelled(observed(40, [2]), 5), ""),
        (labelled(observed(40, [1, 2]), 40), "of two classes alone"),
        (
            labelled(observed(40, [0, 1, 2, 3]), 40),
            "quality stands alone, since no held-out product is of b60",
        ),
        (observed(1, [0], language=None), ", language"),
    ],
    ids=["no photos", "no feedback", "one class", "two classes", "a new class", "one product"],
)
def test_there_is_a_page_at_data_that_are_not_nice(window: Observations, note: str, tmp_path: Path) -> None:
    seen = labelled(observed(200, [0, 1, 2]), 200)
    reference = Reference(seen, CODES, np.array([], dtype=np.uint32))
    texts = {str(number): "</script><script>alert(1)</script> robe rouge" for number in range(40)}
    sides = Sides(reference, window, dict(texts), dict(texts))
    path = write_page(tmp_path / "evidently", sides, tmp_path / "drift/drift.json", "Version 1 </p>")
    content = json.loads(path.with_suffix(".json").read_text())
    assert any(note in each for each in [*content["notes"], ""])
    assert any(each["config"].get("column") == "answer" for each in content["drift"])
    html = path.read_text(encoding="utf-8")
    assert "<script>alert" not in html
    assert "Version 1 &lt;/p&gt;" in html
    assert sorted(each.name for each in path.parent.iterdir()) == [
        "evidently_report.html",
        "evidently_report.json",
    ]
