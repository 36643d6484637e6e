"""The page at `/` in a real browser, before the real service: what a person gives, sees and says back."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from rakuten.monitor.reader import LogReader
from tests.serve.conftest import Serve
from tests.serve.process import Service
from tests.serve.visit import PHONE, Visit, draw_photo, visit

pytestmark = pytest.mark.slow  # a bundle is trained, a service started, a browser opened

TITLE = "Plaid vintage rétro, édition limitée"
NASTY = """@l'été "2" <b>&amp; $HOME `x` \\ ;type=x"""


@pytest.fixture
def seen(served: Service) -> Iterator[Visit]:
    with visit(served) as visited:
        yield visited


def shown_percent(text: str) -> float:
    return float(text.strip("<>%\n ")) / 100


def test_title_and_photo_get_the_answer_that_the_api_gives(seen: Visit, served: Service) -> None:
    photo = draw_photo()
    seen.give(TITLE, photo=photo)
    answer = seen.ask()
    with served.client() as client:
        same = client.post("/predict", data={"designation": TITLE}, files={"image": ("p.jpg", photo)}).json()
    assert answer["predicted_prdtypecode"] == same["predicted_prdtypecode"]
    assert answer["confidence"] == pytest.approx(same["confidence"], abs=1e-5)
    assert seen.text("#name") == answer["name"]
    assert seen.text("#code") == str(answer["predicted_prdtypecode"])
    assert shown_percent(seen.text("#confidence")) == pytest.approx(answer["confidence"], abs=6e-4)
    assert seen.text("#spoke") == answer["model_version"] == "1"
    assert seen.text("#prediction-id") == answer["prediction_id"]
    assert seen.page.locator("#abstained").count() == 0
    assert answer["name"] in (seen.page.locator("#status").text_content() or "")


def test_alternatives_are_cut_where_the_prediction_set_ends(seen: Visit) -> None:
    seen.give(TITLE)
    answer = seen.ask()
    longer = max(answer["top_k"], answer["prediction_set"], key=len)
    rows = seen.page.locator("ol.candidates > li")
    assert rows.count() == len(longer)
    for row, candidate in zip(rows.all(), longer, strict=True):
        assert f"{candidate['name']} {candidate['prdtypecode']}" in " ".join(
            (row.text_content() or "").split()
        )
    assert seen.page.locator("ol.candidates > li.in").count() == len(answer["prediction_set"])
    held = sum(each["confidence"] for each in answer["prediction_set"])
    assert held >= 0.9
    assert f"{100 * held:.1f}%" in seen.text("#prediction-set")


@pytest.mark.parametrize("with_photo", [True, False], ids=["text and photo", "text alone"])
def test_contributions_lead_from_nothing_seen_to_the_confidence(seen: Visit, with_photo: bool) -> None:
    seen.give(TITLE, photo=draw_photo() if with_photo else None)
    answer = seen.ask()
    steps = {
        name: seen.text(f"#step-{name} .number").replace("\N{MINUS SIGN}", "-") for name in ("text", "image")
    }
    shown = {name: float(value) / 100 for name, value in steps.items()}
    assert shown == pytest.approx(answer["contributions"], abs=6e-4)
    assert shown["text"] != 0
    assert (shown["image"] != 0) == with_photo
    base, total = (shown_percent(seen.text(f"#step-{name} .number")) for name in ("base", "total"))
    assert 0 <= base <= 1
    assert base + sum(shown.values()) == pytest.approx(total, abs=2.1e-3)  # four rounded figures
    assert ("none given" in seen.text("#step-image")) == (not with_photo)
    ends = [
        seen.page.locator(f"#step-{name} .fill").bounding_box() for name in ("base", "text", "image", "total")
    ]
    assert all(box is not None and box["width"] >= 1 for box in ends)


def test_a_correction_reaches_the_log(seen: Visit, served: Service) -> None:
    seen.give(TITLE)
    answer = seen.ask()
    seen.page.get_by_role("combobox").fill("epicerie")  # found without its accent
    seen.page.get_by_role("option", name="Épicerie").click()
    seen.page.get_by_role("button", name="Send the correction").click()
    expect(seen.page.locator(".state")).to_have_text("Noted: Épicerie (1940). Thank you.")
    reader = LogReader(f"sqlite:///{served.outputs}/inference.db")
    served.wait(lambda: reader.feedback([answer["prediction_id"]]) == {answer["prediction_id"]: "1940"}, 20)


def test_all_of_it_works_from_the_keyboard(seen: Visit) -> None:
    press, focused = seen.page.keyboard.press, seen.page.locator(":focus")
    press("Tab")
    assert focused.inner_text() == "Skip to the answer"
    for _ in range(2):
        press("Tab")
    expect(focused).to_have_attribute("id", "photo-file")
    ring = seen.page.locator("label.drop").evaluate("each => getComputedStyle(each).outlineStyle")
    assert ring == "solid"
    press("Tab")
    seen.page.keyboard.type(TITLE)
    press("Enter")
    seen.page.locator("#name").wait_for()
    before = seen.text("#prediction-id")
    press("Tab")
    seen.page.keyboard.type("Deux lignes")
    press("Enter")  # a new line, no request
    seen.page.keyboard.type("de texte")
    press("Control+Enter")
    expect(seen.page.locator("#prediction-id")).not_to_have_text(before)
    assert seen.predictions() == 2
    while focused.get_attribute("role") != "combobox":
        press("Tab")
    seen.page.keyboard.type("2583")
    press("Escape")  # closes the list, clears nothing
    assert seen.page.get_by_label("Title").input_value() == TITLE
    press("ArrowDown")
    press("Enter")
    press("Enter")
    expect(seen.page.locator(".state")).to_contain_text("Noted: Piscine et spa (2583)")
    press("Escape")
    expect(seen.page.locator("#result")).to_be_hidden()
    assert seen.page.get_by_label("Title").input_value() == ""
    assert seen.page.get_by_label("Description").input_value() == ""
    expect(focused).to_have_attribute("id", "designation")


def test_a_photo_can_be_dropped_pasted_and_taken_away(seen: Visit) -> None:
    hand_over = """([event, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], `${event}.jpg`, { type: "image/jpeg" }));
        const init = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
        const made = event === "paste" ? new ClipboardEvent(event, init) : new DragEvent(event, init);
        document.body.dispatchEvent(made);
    }"""
    for event in ("drop", "paste"):
        seen.page.evaluate(hand_over, [event, list(draw_photo(seed=3))])
        expect(seen.page.locator("#photo-name")).to_have_text(f"{event}.jpg")
        expect(seen.page.locator("#photo-facts")).to_contain_text("96 × 96")
    answer = seen.ask()  # a photo alone suffices
    assert answer["contributions"]["image"] != 0
    seen.page.get_by_role("button", name="Remove the photo").click()
    expect(seen.page.locator("label.drop")).to_be_visible()


def test_examples_are_asked_at_a_click(seen: Visit) -> None:
    buttons = seen.page.locator("#examples button")
    assert buttons.count() == 4
    for button in buttons.all():
        with seen.page.expect_response(lambda each: "/predict" in each.url) as waiting:
            button.click()
        assert waiting.value.status == 200
        expect(seen.page.locator("#prediction-id")).to_have_text(waiting.value.json()["prediction_id"])
    assert seen.noises == []


def test_what_is_typed_stays_text(seen: Visit) -> None:
    seen.give('<img src="https://example.org/x" onerror="alert(1)">', "<script>alert(2)</script>")
    seen.ask()
    assert "<img src=" in seen.text(".asked")
    assert seen.page.locator("#answer img, #answer script").count() == 0
    assert seen.noises == []
    assert seen.strangers() == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("with_photo", [True, False], ids=["a form", "JSON"])
def test_the_command_shown_asks_the_same(seen: Visit, tmp_path: Path, with_photo: bool) -> None:
    name = 'ma "photo"; l\'été, 1.jpg'
    seen.give(NASTY, NASTY)
    if with_photo:
        seen.choose(draw_photo(), name)
        (tmp_path / name).write_bytes(draw_photo())
    answer = seen.ask()
    seen.page.get_by_text("The same from a terminal").click()
    command = seen.text("#curl").replace("curl ", "curl --silent --noproxy '*' ", 1)
    ran = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(ran.stdout)["top_k"] == answer["top_k"]


def test_a_new_request_takes_the_place_of_the_one_under_way(seen: Visit) -> None:
    held: list[Route] = []
    seen.page.route("**/predict*", lambda route: held.append(route))
    seen.give("Première demande")
    seen.page.get_by_role("button", name="Find the category").click()
    seen.page.locator("#thinking").wait_for()
    expect(seen.page.locator("#answer")).to_have_attribute("aria-busy", "")
    seen.give("Seconde demande")
    with seen.page.expect_request_finished(lambda each: "/predict" in each.url):
        seen.page.get_by_label("Title").press("Enter")
        seen.page.wait_for_timeout(300)
        for route in reversed(held):
            route.continue_()
    expect(seen.page.locator(".asked")).to_have_text("“Seconde demande”")
    assert len(held) == 2
    expect(seen.page.locator("#thinking")).to_be_hidden()


def test_it_fits_a_small_phone_in_the_dark(served: Service) -> None:
    with visit(served, PHONE) as seen:
        seen.page.emulate_media(color_scheme="dark", reduced_motion="reduce")
        wide = "document.documentElement.scrollWidth - window.innerWidth"
        assert seen.page.evaluate(wide) <= 0
        seen.give("Unlongmotquinefinitpas" * 8, photo=draw_photo())
        seen.ask()
        for summary in seen.page.locator("summary").all():
            summary.click()
        seen.page.get_by_role("combobox").click()
        assert seen.page.evaluate(wide) <= 0
        assert seen.page.evaluate("document.getAnimations().length") == 0
        color = "getComputedStyle(document.body).backgroundColor"
        dark = seen.page.evaluate(color)
        seen.page.emulate_media(color_scheme="light")
        assert seen.page.evaluate(color) != dark


def test_it_loads_nothing_from_elsewhere_under_a_strict_policy(seen: Visit, served: Service) -> None:
    with served.client() as client:
        policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not {"unsafe", "http", "*"} & set(re.split(r"[-'\s:]", policy))
    seen.give(TITLE, photo=draw_photo())
    seen.ask()
    seen.page.get_by_role("combobox").fill("jeu")
    seen.page.keyboard.press("Escape")
    seen.page.get_by_text("The same from a terminal").click()
    assert seen.page.evaluate("[...document.images].every(image => image.hidden || image.naturalWidth > 0)")
    assert seen.page.evaluate("document.fonts.check('16px Inter') && document.fonts.size === 2")
    assert seen.strangers() == []
    assert seen.noises == []
    seen.page.get_by_role("link", name="API", exact=True).click()
    seen.page.get_by_text("/predict", exact=True).first.wait_for()
    assert seen.strangers() == []


def test_an_abstention_is_said(serve: Serve) -> None:
    with visit(serve(abstain_below=1.0)) as seen:
        seen.give(TITLE)
        assert seen.ask()["abstained"]
        assert "abstains" in seen.text("#abstained")
        assert "abstains" in (seen.page.locator("#status").text_content() or "")
