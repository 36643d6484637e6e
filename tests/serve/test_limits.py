"""What a request may be: told over raw sockets to a service with tight limits."""

import base64
import io
import json
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from rakuten.serve.photos import PhotoError, check_photo
from rakuten.serve.settings import load_settings
from rakuten.serve.structure import StructureError, check_structure
from tests.serve.process import Service, house
from tests.serve.wire import blank, connect, photo, read, request, talk

TITLE = json.dumps({"designation": "Piscine gonflable"}).encode()
RECEIVE_S = 2.0
BODY_BYTES = 400_000
CONNECTIONS = 20
LIMITS = load_settings().limits


@pytest.fixture(scope="module")
def strict(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(
        house(tmp_path_factory.mktemp("strict") / "house", bundle),
        limits__body_bytes=BODY_BYTES,
        limits__buffered_bytes=BODY_BYTES,
        limits__receive_s=RECEIVE_S,
        limits__text_chars=1000,
        limits__connections=CONNECTIONS,
        limits__items=4,
    )
    try:
        yield service.wait_until_ready()
    finally:
        service.kill()


def chunked(*pieces: bytes) -> bytes:
    head = request(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


def head(*headers: str) -> bytes:
    """A request whose body does not come with it."""
    return request(b"", *headers).replace(b"Content-Length: 0\r\n", b"")


def test_a_body_that_declares_too_much_is_refused_before_it_is_sent(strict: Service) -> None:
    answer = talk(strict.url, head(f"Content-Length: {10**15}"))
    assert answer.status == 413
    assert b"application/problem+json" in answer.raw
    assert answer.closed
    assert talk(strict.url, head(f"Content-Length: {BODY_BYTES + 1}", "Expect: 100-continue")).status == 413


def test_who_sends_too_much_all_the_same_is_told_so(strict: Service) -> None:
    with strict.client() as client:
        assert client.post("/predict", content=bytes(2 * BODY_BYTES)).status_code == 413


def test_chunks_are_counted_as_they_come(strict: Service) -> None:
    assert talk(strict.url, chunked(TITLE[:10], TITLE[10:])).status == 200
    assert talk(strict.url, chunked(*[bytes(60_000)] * 8)).status == 413


def test_who_waits_to_be_asked_for_the_body_is_asked(strict: Service) -> None:
    with connect(strict.url) as wire:
        wire.sendall(head(f"Content-Length: {len(TITLE)}", "Expect: 100-continue"))
        assert wire.recv(100).startswith(b"HTTP/1.1 100 ")
        wire.sendall(TITLE)
        assert b"HTTP/1.1 200 " in read(wire)[0]


def test_compressed_bodies_are_refused(strict: Service) -> None:
    bomb = zlib.compress(bytes(10_000_000))
    assert talk(strict.url, request(bomb, "Content-Encoding: deflate")).status == 415
    assert talk(strict.url, request(TITLE, "Content-Encoding: identity")).status == 200


def test_a_body_that_does_not_come_is_waited_for_and_then_cut(strict: Service) -> None:
    answer = talk(strict.url, [head("Content-Length: 1000"), b"{"])
    assert (answer.status, answer.closed) == (408, True)
    assert RECEIVE_S * 0.8 < answer.seconds < RECEIVE_S * 4


def test_a_body_that_trickles_is_cut_in_the_same_time(strict: Service) -> None:
    answer = talk(strict.url, [head("Content-Length: 1000"), *[b" "] * 100], pause_s=RECEIVE_S / 20)
    assert (answer.status, answer.closed) == (408, True)


def test_a_head_that_trickles_is_cut_in_the_same_time(strict: Service) -> None:
    pieces = [b"POST /predict HTTP/1.1\r\n", *[b"X: y\r\n"] * 60]
    answer = talk(strict.url, pieces, pause_s=RECEIVE_S / 20)
    assert (answer.status, answer.closed) == (408, True)


@pytest.mark.parametrize("sent", [b"", b"\r\n", b"G"])
def test_a_connection_that_says_nothing_is_closed(strict: Service, sent: bytes) -> None:
    answer = talk(strict.url, sent)
    assert answer.closed
    assert answer.seconds < RECEIVE_S * 4


def test_line_breaks_do_not_keep_a_connection_open(strict: Service) -> None:
    with connect(strict.url) as wire:
        wire.sendall(request(TITLE).replace(b"Connection: close\r\n", b""))
        assert wire.recv(100_000).startswith(b"HTTP/1.1 200 ")
        wire.sendall(b"\r\n")
        _, closed = read(wire)
    assert closed


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        request(TITLE, "X: " + "a" * 100_000),
        request(TITLE, *[f"X{number}: y" for number in range(200)]),
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_heads_are_bounded(strict: Service, sent: bytes) -> None:
    pieces = [sent[at : at + 5000] for at in range(0, len(sent), 5000)]
    for answer in (talk(strict.url, sent), talk(strict.url, pieces, pause_s=0.001)):
        assert (answer.status, answer.closed) == (431, True)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        request(TITLE, "Content-Length: 5"),
        request(TITLE, "Transfer-Encoding: chunked"),
        request(TITLE, "Transfer-Encoding: xchunked"),
        request(TITLE, "Transfer-Encoding : chunked"),
        head("Content-Length: -1"),
        head("Content-Length: +5"),
        head("Content-Length: 0x10"),
        head("Transfer-Encoding: chunked") + b"zz\r\n",
        head("Transfer-Encoding: chunked") + b"fffffffffffffffff\r\n",
        request(TITLE, "X: a\x00b"),
        request(TITLE, "X: \xff\\x"),
        b"GET /health?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_requests_that_can_be_read_in_two_ways_are_read_in_none(strict: Service, sent: bytes) -> None:
    answer = talk(strict.url, sent, timeout_s=10)
    assert (answer.status, answer.closed) == (400, True), answer.raw
    assert b"application/problem+json" in answer.raw
    assert b'"status":400' in answer.body


def test_pipelined_requests_are_answered_in_order_up_to_a_number(strict: Service) -> None:
    one = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"
    last = one.replace(b"Host", b"Connection: close\r\nHost")
    few = talk(strict.url, 9 * one + last)
    assert few.statuses == [200] * 10
    many = talk(strict.url, 5000 * one)
    assert many.closed
    assert len(many.statuses) < 50
    assert set(many.statuses) <= {200, 400}


def test_there_are_no_websockets(strict: Service) -> None:
    upgrade = ("Upgrade: websocket", "Sec-WebSocket-Key: a", "Sec-WebSocket-Version: 13")
    lines = request(b"", *upgrade, method="GET", path="/health").replace(
        b"Connection: close", b"Connection: Upgrade"
    )
    assert talk(strict.url, lines, timeout_s=3).status == 200


def test_one_who_waits_longest_makes_room_for_one_who_asks(strict: Service) -> None:
    silent = [connect(strict.url) for _ in range(3 * CONNECTIONS)]
    try:
        time.sleep(0.2)
        began = time.monotonic()
        with strict.client() as client:
            statuses = [client.post("/predict", content=TITLE, headers=JSON).status_code for _ in range(5)]
        assert statuses == [200] * 5
        assert time.monotonic() - began < 10 * RECEIVE_S
    finally:
        for each in silent:
            each.close()


JSON = {"Content-Type": "application/json"}


def test_large_bodies_are_buffered_up_to_a_sum_and_small_ones_always(strict: Service) -> None:
    held = [connect(strict.url) for _ in range(4)]
    try:
        for each in held:
            each.sendall(head(f"Content-Length: {BODY_BYTES}") + b" " * (BODY_BYTES - 1))
        time.sleep(0.3)
        with strict.client() as client:
            assert client.post("/predict", content=TITLE, headers=JSON).status_code == 200
        statuses = []
        for each in held:
            each.settimeout(0.5)
            try:
                statuses.append(int(each.recv(1000)[9:12]))
            except TimeoutError:
                statuses.append(0)
        # Of 400 kB each, the first 128 KiB are free: one fits into the sum, not two.
        assert statuses.count(503) >= 2
    finally:
        for each in held:
            each.close()
    strict.wait(lambda: _large(strict) == 422, timeout_s=20)


def _large(service: Service) -> int:
    with service.client() as client:
        return client.post("/predict", content=b" " * (BODY_BYTES - 2) + b"{}", headers=JSON).status_code


def test_a_client_that_does_not_read_is_cut(strict: Service) -> None:
    with connect(strict.url) as wire:
        wire.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n" * 10)
        time.sleep(2.5 * RECEIVE_S)
        raw, closed = read(wire)
    assert closed
    assert raw.count(b"HTTP/1.1 200 ") < 10


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"designation":' * 20_000,
        b"{}," * 100_000,
        b'"",' * 100_000,
        b'{"a":"' + b'\\"' * 150_000 + b'"}',
        b'{"a":"' + b"\\" * 300_000 + b'"}',
        b'{"image":"\xf0\x9f\x98\x80' + b"a" * 300_000 + b'"}',
        b'{"items":[' + b"1," * 30_000 + b"1]}",
    ],
)
def test_json_is_bounded_before_it_is_parsed(strict: Service, text: bytes) -> None:
    answer = talk(strict.url, request(text))
    assert answer.status == 422
    assert b'"field":"body"' in answer.body


def test_numbers_without_end_are_no_trouble(strict: Service) -> None:
    for text in (b'{"designation": ' + b"9" * 300_000 + b"}", b'{"designation": 1e999999999}', b"-" * 1000):
        assert talk(strict.url, request(text)).status in (400, 422)
    given = b'{"prediction_id":"' + b"0" * 32 + b'","prdtypecode":' + b"9" * 5000 + b"}"
    assert talk(strict.url, request(given, path="/feedback")).status in (400, 422)


def test_texts_and_batches_are_bounded(strict: Service) -> None:
    with strict.client() as client:
        long = client.post("/predict", json={"designation": "é" * 1001})
        assert [each["field"] for each in long.json()["errors"]] == ["designation"]
        assert client.post("/predict", json={"designation": "é" * 1000}).status_code == 200
        assert client.post("/predict", files={"designation": (None, "é" * 1001)}).status_code == 422
        assert client.post("/predict", files={"designation": (None, "é" * 5000)}).status_code == 422
        assert client.post("/predict_batch", json={"items": [{"designation": "a"}] * 5}).status_code == 422
        assert client.post("/predict_batch", json={"items": [{"designation": "a"}] * 4}).status_code == 200


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n" * 2000 + b"--x--\r\n", 422),
        (b"--x\r\n" + b"A: b\r\n" * 2000 + b"\r\n\r\n--x--\r\n", 400),
        (b"--x\r\nA: " + b"b" * 100_000 + b"\r\n\r\n\r\n--x--\r\n", 400),
        (b"--x\r\nContent-Disposition: form-data; name=" + b"n" * 3000 + b"\r\n\r\n\r\n--x--\r\n", 422),
        (b"\r\n" * 100_000, 400),
        (b"-" * 150_000, 400),
    ],
)
def test_forms_are_bounded(strict: Service, form: bytes, status: int) -> None:
    type_ = "Content-Type: multipart/form-data; boundary=x"
    sent = request(form).replace(b"Content-Type: application/json", type_.encode())
    assert talk(strict.url, sent).status == status


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _declares(width_px: int, height_px: int) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(b""))


def _webp_declares(width_px: int, height_px: int) -> bytes:
    canvas = bytes(4) + (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


REFUSED = {
    "declares 10^10 pixels": _declares(100_000, 100_000),
    "declares none": _declares(0, 5),
    "declares 2^28, WebP": _webp_declares(16_384, 16_384),
    "large and blank": blank("PNG", 5_000, 4_000),
    "a wide line": blank("PNG", 20_000_000, 1, "1"),
    "JPEG, 65500 x 700": blank("JPEG", 65_500, 700),
    "many scans": photo() + b"\xff\xda\x00\x02" * 200,
    "many scans of many pixels": blank("JPEG", 8_000, 4_000) + b"\xff\xda\x00\x02" * 50,
    "many segments": b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000 + photo()[2:],
    "fill bytes": b"\xff\xd8" + b"\xff" * 1_000_000,
    "a segment that ends elsewhere": b"\xff\xd8\xff\xe0\xff\xff" + bytes(10),
    "many chunks": photo("PNG")[:33] + _chunk(b"tEXt", b"") * 30_000,
    "cut off": photo()[:15],
    "GIF": blank("GIF", 5, 5),
    "BMP": blank("BMP", 5, 5),
    "TIFF": blank("TIFF", 5, 5),
    "ICO": blank("ICO", 16, 16),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "PDF": b"%PDF-1.7",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
    "nothing": b" ",
}


@pytest.mark.parametrize("name", REFUSED)
def test_photos_are_refused_by_what_they_declare(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(PhotoError):
        check_photo(REFUSED[name], LIMITS)
    assert time.monotonic() - began < 2  # a decoder would take minutes, or all memory


@pytest.mark.parametrize(
    "data",
    [
        photo("JPEG"),
        photo("JPEG", progressive=True),
        photo("JPEG", mode="CMYK"),
        photo("PNG"),
        photo("PNG", mode="P"),
        photo("WEBP"),
        photo("WEBP", lossless=True),
        photo("WEBP", mode="RGBA", exif=b"Exif\0\0"),
        photo() + b"PK\x03\x04" + bytes(100),
        blank("JPEG", 8_000, 4_000),
    ],
)
def test_photos_as_they_come_are_taken(data: bytes) -> None:
    declared = check_photo(data, LIMITS)
    with Image.open(io.BytesIO(data)) as image:
        assert (declared.width_px, declared.height_px) == image.size
        assert declared.format.upper() == image.format


def test_of_a_photo_that_moves_the_first_frame_is_looked_at(served: Service) -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    moving, still = io.BytesIO(), io.BytesIO()
    frames[0].save(moving, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(still, "WEBP", lossless=True)
    with served.client() as client:
        answers = [
            client.post("/predict", files={"image": each.getvalue()}).json() for each in (moving, still)
        ]
    assert answers[0]["top_k"] == answers[1]["top_k"]


@pytest.mark.parametrize("name", ["many scans", "declares 10^10 pixels", "GIF", "cut off"])
def test_a_photo_that_is_refused_is_a_problem(served: Service, name: str) -> None:
    in_json = {"designation": "a", "image": base64.b64encode(REFUSED[name]).decode()}
    with served.client() as client:
        for response in (
            client.post("/predict", json=in_json),
            client.post("/predict", files={"image": REFUSED[name]}),
        ):
            assert response.status_code == 422
            assert [each["field"] for each in response.json()["errors"]] == ["image"]


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        (b'{"a": "\\\\", "b": "\\\\\\""}', True),
        (b'{"a": "[[[[[[[[[[[["}', True),
        (b'{"items": [[[{}]]]}', True),
        (b"[" * 9 + b"]" * 9, False),
        (b'"unclosed', True),
        (b'"a\\', True),
    ],
)
def test_structure_is_what_stands_outside_strings(text: bytes, ok: bool) -> None:
    def check() -> None:
        check_structure(text, items=2, depth=8, string_chars=100)

    if ok:
        check()
    else:
        with pytest.raises(StructureError):
            check()


@pytest.mark.slow
def test_overload_is_told_and_passes(serve: Any) -> None:
    service = serve(latency_target_ms=5, cache_size=0)  # a busy client asks for no more than that
    found: list[httpx.Response] = []

    def ask(number: int) -> None:
        with service.client() as client:
            for turn in range(10):
                text = f"produit {number} {turn} " + "mot " * 300
                found.append(client.post("/predict", json={"designation": text, "description": text}))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {each.status_code for each in found} == {200, 503}
    for each in found:
        if each.status_code == 503:
            assert int(each.headers["retry-after"]) >= 1
            assert each.json()["type"].endswith("#overloaded")
    with service.client() as client:
        service.wait(lambda: client.post("/predict", json={"designation": "a"}).status_code == 200, 30)
