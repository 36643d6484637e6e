"""What the page says and does where there is no answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from rakuten.serve.security import hash_key
from tests.serve.conftest import Serve
from tests.serve.process import Service, house, promote
from tests.serve.visit import Visit, draw_photo, visit

pytestmark = pytest.mark.slow

TITLE = "Parasol de jardin déporté"


@pytest.fixture
def seen(served: Service) -> Iterator[Visit]:
    with visit(served) as visited:
        yield visited


def press(seen: Visit) -> None:
    seen.page.get_by_role("button", name="Find the category").click()


def test_nothing_is_asked_where_nothing_is_given(seen: Visit) -> None:
    press(seen)
    expect(seen.page.locator("#designation-error")).to_have_text("Give a title, a description or a photo.")
    expect(seen.page.get_by_label("Title")).to_have_attribute("aria-invalid", "true")
    expect(seen.page.get_by_label("Title")).to_be_focused()
    assert seen.predictions() == 0


def test_a_photo_that_the_service_cannot_read_is_told_beside_it(seen: Visit) -> None:
    photo = draw_photo()
    seen.give(TITLE, photo=photo[: len(photo) // 3])
    press(seen)
    assert "What is wrong stands beside the field" in seen.problem()
    assert len(seen.text("#photo-error")) > 10
    expect(seen.page.locator("#photo-file")).to_have_attribute("aria-invalid", "true")
    seen.choose(photo)
    expect(seen.page.locator("#photo-error")).to_be_empty()
    seen.ask()
    expect(seen.page.locator("#problem")).to_be_hidden()
    expect(seen.page.locator("#result")).to_be_visible()


@pytest.mark.parametrize(
    ("photo", "said"),
    [
        (b"\xff\xd8\xff" + bytes(8_000_000), "This photo has 8,000,003 bytes; the service takes up to 8 MB."),
        (b"\xff\xd8\xff" + bytes(9_300_000), "This photo has 9.3 MB; the service takes up to 8 MB."),
        (b"GIF89a" + bytes(100), "is no JPEG, PNG or WebP"),
    ],
    ids=["a byte too many", "too large", "another format"],
)
def test_a_photo_that_will_not_do_is_refused_before_it_is_sent(seen: Visit, photo: bytes, said: str) -> None:
    seen.choose(photo, "photo.bin")
    expect(seen.page.locator("#photo-error")).to_contain_text(said)
    expect(seen.page.locator(".chosen")).to_be_hidden()
    assert seen.predictions() == 0


def test_too_long_a_text_is_told_with_its_length(seen: Visit) -> None:
    seen.give(TITLE, "é" * 20_001)
    press(seen)
    expected = "20,001 characters; the service takes up to 20,000."
    expect(seen.page.locator("#description-error")).to_have_text(expected)
    assert seen.predictions() == 0


def test_what_the_page_takes_the_service_takes(serve: Serve) -> None:
    with visit(serve(limits__text_chars=50, limits__image_bytes=20_000)) as seen:
        seen.give("é" * 50, photo=draw_photo())
        assert seen.ask()["prediction_id"]
        seen.give("é" * 51)
        press(seen)
        expect(seen.page.locator("#designation-error")).to_contain_text("up to 50")
        seen.choose(draw_photo(1000))
        expect(seen.page.locator("#photo-error")).to_contain_text("up to 20 kB")


def test_a_service_without_a_model_is_asked_again_until_it_has_one(bundle: Path, tmp_path: Path) -> None:
    service = Service(house(tmp_path / "house"))
    try:
        service.wait_until_alive()
        with visit(service) as seen:
            seen.give(TITLE)
            press(seen)
            assert "There is no model to answer" in seen.problem()
            expect(seen.page.locator(".clock")).to_contain_text("Trying again in")
            promote(service.outputs, bundle, "7")
            expect(seen.page.locator("#spoke")).to_have_text("7", timeout=120_000)
            expect(seen.page.locator("#problem")).to_be_hidden()
            assert seen.predictions() >= 2
    finally:
        service.kill()


def test_a_service_that_is_gone_is_said_and_found_again(serve: Serve) -> None:
    service = serve()
    with visit(service) as seen:
        service.kill()
        seen.give(TITLE)
        press(seen)
        assert "The service cannot be reached" in seen.problem()
        service.process = service._start()
        service.wait_until_ready()
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.locator("#result")).to_be_visible()


def test_too_many_requests_count_down_and_can_be_stopped(serve: Serve) -> None:
    with visit(serve(rate_limit=0.2, rate_burst=2)) as seen:  # one went for GET /model
        seen.give(TITLE)
        seen.ask()
        press(seen)
        assert "Too many requests" in seen.problem()
        seen.page.get_by_role("button", name="Stop").click()
        expect(seen.page.get_by_role("button", name="Try again")).to_be_focused()
        asked = seen.predictions()
        seen.page.wait_for_timeout(6000)  # longer than it was told to wait
        assert seen.predictions() == asked
        seen.page.get_by_role("button", name="Try again").click()
        expect(seen.page.locator("#result")).to_be_visible()


def test_a_key_is_asked_for_and_kept_in_the_tab_alone(serve: Serve) -> None:
    key = "not-so-secret"
    service = serve(api_keys=f"shop:{hash_key(key)}")
    with visit(service) as seen:
        seen.give(TITLE)
        for attempt in ("wrong", key):
            if attempt == "wrong":
                press(seen)
            assert "An API key is needed" in seen.problem()
            seen.page.get_by_label("API key").fill(attempt)
            with seen.page.expect_response(lambda each: "/predict" in each.url):
                seen.page.get_by_role("button", name="Use it").click()
        expect(seen.page.locator("#result")).to_be_visible()
        seen.page.get_by_text("The same from a terminal").click()
        assert "Bearer $RAKUTEN_API_KEY" in seen.text("#curl")
        assert key not in seen.page.content()
        assert seen.page.evaluate("localStorage.length") == 0
        assert seen.page.evaluate("document.cookie") == ""
        seen.page.reload()
        seen.give(TITLE)
        seen.ask()
        expect(seen.page.locator("#result")).to_be_visible()


def test_an_answer_of_something_between_is_no_answer(seen: Visit) -> None:
    def answer(route: Route) -> None:
        route.fulfill(status=502, content_type="text/html", body="<html>Bad gateway</html>")

    seen.page.route("**/predict*", answer)
    seen.give(TITLE)
    press(seen)
    assert "The answer cannot be read" in seen.problem()
    assert "502" in seen.problem()
    seen.page.unroute("**/predict*")
    seen.page.get_by_role("button", name="Try again").click()
    expect(seen.page.locator("#result")).to_be_visible()


def test_a_correction_that_is_not_stored_is_said(serve: Serve) -> None:
    service = serve()
    with visit(service) as seen:
        seen.give(TITLE)
        seen.ask()
        service.kill()
        seen.page.get_by_role("button", name="Yes, it is right").click()
        expect(seen.page.locator(".state")).to_contain_text("Not stored. The service cannot be reached.")
