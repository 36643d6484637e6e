"""The published API, asked over HTTP of a real service."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve.process import Service, house
from tests.serve.wire import photo

TITLE = "Piscine gonflable ronde 3 m"
SHAPE = {"type", "title", "status", "detail", "instance", "errors"}


@pytest.fixture(scope="module")
def api(served: Service) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return {name: value for name, value in body.items() if name != "prediction_id"}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """A response's problem, checked for the one shape that all have."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert set(body) <= SHAPE
    assert body["status"] == status
    assert body["type"].startswith("/docs/problems#")
    assert body["detail"]
    return body


def fields(response: httpx.Response) -> list[str]:
    return [each["field"] for each in problem(response, 422)["errors"]]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_the_request_of_old_gets_its_answer(api: httpx.Client) -> None:
    body = answer(api.post("/predict", json={"designation": TITLE, "description": "Diamètre 305 cm"}))
    assert isinstance(body["predicted_prdtypecode"], int)
    assert api.get("/health").json() == {"status": "ok", "model_version": "1"}


def test_an_answer_says_all_that_it_is_to_say(api: httpx.Client) -> None:
    body = answer(api.post("/predict", json={"designation": TITLE, "image": b64(photo())}))
    best = body["top_k"][0]
    assert best["prdtypecode"] == body["predicted_prdtypecode"]
    assert (best["name"], best["confidence"]) == (body["name"], body["confidence"])
    confidences = [each["confidence"] for each in body["top_k"]]
    assert confidences == sorted(confidences, reverse=True)
    reached = [each["confidence"] for each in body["prediction_set"]]
    assert sum(reached) >= 0.9 > sum(reached[:-1])
    assert body["abstained"] is False
    assert body["model_version"] == "1"
    assert "contributions" not in body


@pytest.mark.parametrize(
    "given",
    [
        {"designation": TITLE},
        {"description": TITLE},
        {"designation": None, "description": None, "image": b64(photo())},
        {"designation": TITLE, "description": None},
        {"designation": "", "description": TITLE, "image": None},
        {"designation": "😀 \x00 \u202e عربى"},
    ],
)
def test_any_one_of_title_description_and_photo_suffices(api: httpx.Client, given: dict[str, Any]) -> None:
    answer(api.post("/predict", json=given))


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP"])
def test_a_form_and_json_say_the_same(api: httpx.Client, format_: str) -> None:
    image = photo(format_)
    by_json = api.post("/predict", json={"designation": TITLE, "description": "ronde", "image": b64(image)})
    by_form = api.post(
        "/predict",
        data={"designation": TITLE, "description": "ronde"},
        files={"image": ("of no importance.exe", image, "text/plain")},
    )
    assert answer(by_json) == answer(by_form)


def test_a_form_without_a_photo_and_one_whose_photo_was_left_empty(api: httpx.Client) -> None:
    plain = answer(api.post("/predict", json={"designation": TITLE}))
    for files in ({"designation": (None, TITLE)}, {"designation": (None, TITLE), "image": ("", b"")}):
        assert answer(api.post("/predict", files=files)) == plain


def test_contributions_come_when_they_are_asked_for(api: httpx.Client) -> None:
    given = {"designation": TITLE, "image": b64(photo())}
    by_query = answer(api.post("/predict?explain=true", json=given))
    by_field = api.post(
        "/predict", data={"designation": TITLE, "explain": "true"}, files={"image": ("x", photo())}
    )
    assert set(by_query["contributions"]) == {"text", "image"}
    assert answer(by_field) == by_query
    assert "contributions" not in answer(api.post("/predict?explain=false", json=given))
    assert fields(api.post("/predict?explain=perhaps", json=given)) == ["explain"]
    assert fields(api.post("/predict", data={"explain": "perhaps"}, files={"image": ("x", photo())})) == [
        "explain"
    ]


@pytest.mark.parametrize(
    "given", [{}, {"designation": None}, {"designation": " ", "description": "\n"}, {"image": ""}]
)
def test_nothing_at_all_is_refused(api: httpx.Client, given: dict[str, Any]) -> None:
    assert fields(api.post("/predict", json=given)) == ["designation"]
    filled = {name: (None, value or "") for name, value in given.items()}
    assert fields(api.post("/predict", files=filled or {"designation": (None, "")})) == ["designation"]


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"designation": 3}, "designation"),
        ({"designation": ["a"]}, "designation"),
        ({"designation": TITLE, "image": "http://127.0.0.1:1/photo.jpg"}, "image"),
        ({"designation": TITLE, "image": "!!!!"}, "image"),
        ({"designation": TITLE, "image": b64(b"GIF89a" + bytes(50))}, "image"),
        ({"designation": TITLE, "image": b64(photo()[:300])}, "image"),
        ({"designation": TITLE, "titel": "x"}, "titel"),
        ([], "body"),
        ("text", "body"),
        (7, "body"),
    ],
)
def test_what_does_not_fit_is_said_field_by_field(api: httpx.Client, given: Any, wrong: str) -> None:
    assert fields(api.post("/predict", json=given)) == [wrong]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"designation": "a"} {}',
        b'{"designation": NaN}',
        b'{"designation": Infinity}',
        b'{"designation": "a\xff"}',
        b'{"designation": "\\ud800"}',
        b'{"designation": "a\nb"}',
        b"\xef\xbb\xbf{}",
        '{"designation": "a"}'.encode("utf-16"),
        b"\x00",
    ],
)
def test_what_is_no_json_is_malformed(api: httpx.Client, text: bytes) -> None:
    problem(api.post("/predict", content=text, headers={"Content-Type": "application/json"}), 400)


def test_of_a_key_that_comes_twice_the_last_counts(api: httpx.Client) -> None:
    text = f'{{"designation": "livre", "designation": "{TITLE}"}}'
    headers = {"Content-Type": "application/json; charset=utf-8"}
    assert answer(api.post("/predict", content=text, headers=headers)) == answer(
        api.post("/predict", json={"designation": TITLE})
    )


@pytest.mark.parametrize("type_", ["application/x-www-form-urlencoded", "text/plain", "image/jpeg", "x", ""])
def test_other_media_types_are_refused(api: httpx.Client, type_: str) -> None:
    problem(api.post("/predict", content=b'{"designation": "a"}', headers={"Content-Type": type_}), 415)


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"", 400),
        (b"--x--\r\n", 422),
        (b"--x\r\nno header\r\n\r\n--x--\r\n", 400),
        (b'--x\r\nContent-Disposition: form-data; name="designation"\r\n\r\nlivre', 400),
        (b'--x\r\nContent-Disposition: form-data; name="designation"\r\n\r\n\xff\r\n--x--\r\n', 422),
        (b'--x\r\nContent-Disposition: form-data; name="other"\r\n\r\nlivre\r\n--x--\r\n', 422),
        (2 * b'--x\r\nContent-Disposition: form-data; name="designation"\r\n\r\na\r\n' + b"--x--\r\n", 422),
    ],
)
def test_forms_that_are_none(api: httpx.Client, form: bytes, status: int) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(api.post("/predict", content=form, headers=headers), status)


def test_a_batch_answers_each_item_as_if_it_were_alone(api: httpx.Client) -> None:
    items: list[Any] = [{"designation": f"{TITLE} {number}"} for number in range(5)]
    items += [{"image": b64(photo())}, {"designation": "livre", "image": b64(photo("PNG"))}]
    alone = [answer(api.post("/predict", json=item)) for item in items]
    results = api.post("/predict_batch", json={"items": items}).json()["results"]
    for one, each in zip(alone, results, strict=True):
        assert each["predicted_prdtypecode"] == one["predicted_prdtypecode"]
        assert each["confidence"] == pytest.approx(one["confidence"], abs=1e-5)
    assert len({each["prediction_id"] for each in results}) == len(items)


def test_a_bad_item_spoils_no_other(api: httpx.Client) -> None:
    good = {"designation": TITLE}
    bad: list[Any] = [
        {},
        {"designation": 3},
        {"image": "!"},
        {"image": b64(photo()[:300])},
        "x",
        None,
        [],
        {"a": 1},
    ]
    results = api.post("/predict_batch", json={"items": [good, *bad, good]}).json()["results"]
    alone = answer(api.post("/predict", json=good))
    for each in (results[0], results[-1]):
        assert each["predicted_prdtypecode"] == alone["predicted_prdtypecode"]
    assert [each["status"] for each in results[1:-1]] == [422] * len(bad)
    assert all(set(each) <= SHAPE and each["errors"] for each in results[1:-1])


@pytest.mark.parametrize(
    "given", [{}, {"items": []}, {"items": "x"}, {"items": {"a": 1}}, [], {"items": [{}] * 65}]
)
def test_batches_that_are_none(api: httpx.Client, given: Any) -> None:
    assert fields(api.post("/predict_batch", json=given)) == ["items"]


def test_feedback_goes_to_the_log(api: httpx.Client) -> None:
    prediction = api.post("/predict", json={"designation": TITLE}).json()
    given = {"prediction_id": prediction["prediction_id"], "prdtypecode": prediction["predicted_prdtypecode"]}
    response = api.post("/feedback", json=given)
    assert (response.status_code, response.json()) == (202, given)
    assert fields(api.post("/feedback", json=given | {"prdtypecode": 123456})) == ["prdtypecode"]
    assert fields(api.post("/feedback", json=given | {"prediction_id": "x" * 32})) == ["prediction_id"]


def test_the_model_says_what_it_is(api: httpx.Client) -> None:
    model = api.get("/model").json()
    assert model["model_version"] == "1"
    assert {"prdtypecode", "name"} == set(model["labels"][0])
    assert model["runtime"]
    assert model["lineage"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/nothing", 404, None),
        ("POST", "/", 405, "GET"),
        ("GET", "/page/nothing.js", 404, None),
        ("GET", "/page/../settings.py", 404, None),
        ("GET", "/predict", 405, "POST"),
        ("PUT", "/predict", 405, "POST"),
        ("OPTIONS", "/predict", 405, "POST"),
        ("POST", "/health", 405, "GET"),
        ("POST", "/livez", 405, "GET"),
        ("TRACE", "/metrics", 405, "GET"),
    ],
)
def test_errors_have_one_shape_everywhere(
    api: httpx.Client, method: str, path: str, status: int, allow: str | None
) -> None:
    response = api.request(method, path)
    problem(response, status)
    if allow is not None:
        assert allow in response.headers["allow"]


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/page/style.css", "/livez"])
def test_head_is_get_without_a_body(api: httpx.Client, path: str) -> None:
    response = api.head(path)
    assert response.status_code == 200
    assert response.content == b""
    assert int(response.headers["content-length"]) == len(api.get(path).content)


def test_files_are_sent_once_and_then_only_confirmed(api: httpx.Client) -> None:
    first = api.get("/page/style.css")
    again = api.get("/page/style.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_without_a_champion_it_lives_and_says_what_is_missing(tmp_path: Path) -> None:
    service = Service(house(tmp_path / "house"))
    try:
        service.wait_until_alive()
        with service.client() as api:
            for response in (
                api.get("/health"),
                api.get("/readyz"),
                api.get("/model"),
                api.post("/predict", json={"designation": TITLE}),
            ):
                problem(response, 503)
            assert int(api.get("/health").headers["retry-after"]) >= 1
            assert api.get("/").status_code == 200
    finally:
        service.kill()


def test_without_a_log_feedback_has_nowhere_to_go(serve: Any) -> None:
    with serve(log="").client() as api:
        code = answer(api.post("/predict", json={"designation": TITLE}))["predicted_prdtypecode"]
        response = api.post("/feedback", json={"prediction_id": "0" * 32, "prdtypecode": code})
        assert "log" in problem(response, 503)["detail"]
