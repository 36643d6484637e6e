"""The service's page in a real browser, with all that it says and asks while it is looked at."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from playwright.sync_api import Page

from rakuten.data.demo_render import render_photo
from tests.browser import open_page
from tests.serve.process import Service

DESKTOP, PHONE = (1280, 900), (320, 640)


def draw_photo(side_px: int = 96, seed: int = 0) -> bytes:
    """A JPEG as the demo catalogue has them."""
    rng = np.random.default_rng(seed)
    return render_photo(rng.choice([7, 8, 11], 9), side_px, rng)


@dataclass
class Visit:
    """A page that was opened: `noises` are complaints of the browser, `asked` what went out (method, URL)."""

    page: Page
    url: str
    noises: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)

    def give(self, designation: str = "", description: str = "", photo: bytes | None = None) -> None:
        self.page.get_by_label("Title").fill(designation)
        self.page.get_by_label("Description").fill(description)
        if photo is not None:
            self.choose(photo)

    def choose(self, photo: bytes, name: str = "photo.jpg") -> None:
        self.page.locator("#photo-file").set_input_files(
            [{"name": name, "mimeType": "image/jpeg", "buffer": photo}]
        )

    def ask(self) -> dict[str, Any]:
        """Presses the button; the service's answer, shown by now."""
        with self.page.expect_response(lambda each: "/predict" in each.url) as waiting:
            self.page.get_by_role("button", name="Find the category").click()
        answer: dict[str, Any] = json.loads(waiting.value.text())
        self.page.locator("#answer:not([aria-busy])").wait_for()
        return answer

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def problem(self) -> str:
        """What is said to be wrong, once it is."""
        self.page.locator("#problem").wait_for()
        return self.text("#problem")

    def predictions(self) -> int:
        return sum("/predict" in url for _, url in self.asked)

    def strangers(self) -> list[str]:
        """Requests to anything but the service."""
        home = urlsplit(self.url).netloc
        return [url for _, url in self.asked if urlsplit(url).netloc not in (home, "") and url[:5] != "blob:"]


@contextmanager
def visit(service: Service, size: tuple[int, int] = DESKTOP) -> Iterator[Visit]:
    with open_page(offline=False, width=size[0], height=size[1]) as page:
        visited = Visit(page, service.url)
        page.set_default_timeout(60_000)
        page.on("console", lambda message: visited.noises.append(message.text))
        page.on("pageerror", lambda error: visited.noises.append(str(error)))
        page.on("request", lambda request: visited.asked.append((request.method, request.url)))
        page.goto(service.url, wait_until="networkidle")
        yield visited
