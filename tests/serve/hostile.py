"""Requests that nobody should send: the same ones for the same seed."""

import base64
import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from PIL import Image
from schemathesis import GenerationMode

from tests.serve.wire import blank, photo, request

Make = Callable[[random.Random], "Shot"]
MB = 1_000_000
WORDS = [
    "piscine",
    "livre",
    "jeu",
    "coussin",
    "lot",
    "enfant",
    "rouge",
    "3",
    "m",
    "neuf",
    "édition",
    "œuf",
    "jardin",
    "console",
    "carte",
]


@dataclass(frozen=True)
class Shot:
    """One request, or what pretends to be one: its pieces, the pause between them, and how long an answer may take.

    `is_slow`: it holds a connection for long by intent, so that many are under way at once.
    """

    kind: str
    pieces: tuple[bytes, ...]
    pause_s: float = 0.0
    is_slow: bool = False
    reads: bool = True


def title(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(2, 12)))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def to_json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def form(*parts: tuple[str, bytes], boundary: str = "xYzZY") -> bytes:
    """A POST of a form whose parts are each what follows `form-data`, and a body."""
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data{head}\r\n\r\n".encode() + data + b"\r\n"
        for head, data in parts
    )
    return as_form(body + f"--{boundary}--\r\n".encode(), boundary)


def as_form(body: bytes, boundary: str = "xYzZY") -> bytes:
    type_ = f"multipart/form-data; boundary={boundary}".encode()
    return request(body).replace(b"application/json", type_)


def with_photo(rng: random.Random, kind: str, data: bytes) -> Shot:
    """By JSON, by a form, or in a batch beside a good product."""
    way = rng.randrange(4)
    if way == 0:
        return Shot(kind, (form(('; name="image"; filename="a.jpg"', data)),))
    if way == 1:
        items = [{"designation": title(rng)}, {"image": b64(data)}]
        return Shot(kind, (request(to_json({"items": items}), path="/predict_batch"),))
    return Shot(kind, (request(to_json({"designation": title(rng), "image": b64(data)})),))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width_px: int, height_px: int, *chunks: bytes, depth: int = 8, colours: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width_px, height_px, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


@cache
def _bombs() -> list[bytes]:
    """All small themselves; what a decoder would make of them is not, or takes it long."""
    pixels = chunk(b"IDAT", zlib.compress(bytes(64 * 193)))
    zeros = zlib.compress(bytes(30 * MB), 9)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00"
    return [
        *(png(side_px, 3 * side_px // 2, pixels) for side_px in (5_000, 100_000, 2**30)),
        png(64, 64, chunk(b"IDAT", zeros)),  # more than it declares
        png(64, 64, chunk(b"iCCP", b"x\0\0" + zeros), pixels),
        png(64, 64, chunk(b"zTXt", b"x\0\0" + zeros), pixels),
        png(64, 64, chunk(b"iTXt", b"x\0\1\0\0\0" + zeros), pixels),
        png(64, 64, *[chunk(b"tEXt", b"a\0b")] * 30_000, pixels),
        png(3_000, 2_000, chunk(b"IDAT", zlib.compress(bytes(2_000 * 9_001)))),  # allowed
        blank("PNG", 20_000, 1_000, "1"),
        blank("JPEG", 65_000, 700),
        photo()[:2] + b"\xff\xe0\x00\x04ab" * 20_000 + photo()[2:],
        photo(progressive=True)[:-2] + scan * 5_000 + b"\xff\xd9",
        photo(progressive=True)[:-2] + scan * 80 + b"\xff\xd9",  # allowed
        b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\x02\0\0\0" + b"\xff\x3f\0\xff\x3f\0" + bytes(50),
    ]


def bomb(rng: random.Random) -> Shot:
    return with_photo(rng, "bomb", rng.choice(_bombs()))


def broken_photo(rng: random.Random) -> Shot:
    whole = bytearray(photo(rng.choice(["JPEG", "PNG", "WEBP"]), rng.randint(1, 90), seed=rng.randrange(20)))
    if rng.random() < 0.5:
        del whole[rng.randrange(len(whole)) :]
    else:
        for _ in range(rng.randint(1, 30)):
            whole[rng.randrange(len(whole))] = rng.randrange(256)
    return with_photo(rng, "broken photo", bytes(whole))


def polyglot(rng: random.Random) -> Shot:
    head = rng.choice(
        [photo(), photo("PNG"), photo("WEBP"), b"GIF89a", b"%PDF-1.4\n", b"PK\x03\x04", b"<svg>", b"BM"]
    )
    tail = rng.choice(
        [photo(), b"<script>alert(1)</script>", b"PK\x05\x06" + bytes(18), rng.randbytes(2000), b"GIF89a"]
    )
    return with_photo(rng, "polyglot", head + tail)


def odd_photo(rng: random.Random) -> Shot:
    made = rng.choice(
        [
            lambda: photo(mode="CMYK"),
            lambda: photo(mode="L", progressive=True),
            lambda: photo("PNG", mode="P"),
            lambda: photo("PNG", mode="LA"),
            lambda: blank("PNG", 30, 30, "I;16"),
            lambda: photo("WEBP", mode="RGBA", lossless=True),
            lambda: photo("GIF"),
            lambda: photo("BMP"),
            lambda: photo("TIFF"),
            lambda: blank("PNG", 1, 3_000),
            lambda: blank("JPEG", 3_000, 1),
            lambda: _moving(),
            lambda: photo("JPEG", exif=b"Exif\0\0" + rng.randbytes(200)),
        ]
    )()
    return with_photo(rng, "odd photo", made)


def _moving() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (40, 40), (number, 0, 0)) for number in range(30)]
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:])
    return out.getvalue()


def deep(rng: random.Random) -> Shot:
    depth = rng.choice([9, 50, 1_000, 100_000, 300_000])
    opened = rng.choice([b"[", b'{"a":', b'{"items":[', b"[{},", b'{"designation":'])
    body = opened * min(depth, MB // len(opened))
    if rng.random() < 0.3:
        body += b"]" * depth
    return Shot("deep JSON", (request(body, path=rng.choice(["/predict", "/predict_batch", "/feedback"])),))


def wide(rng: random.Random) -> Shot:
    one = rng.choice([b"{},", b"[],", b'"",', b"0,", b"1.5,", b"null,", b'{"a":1},', b'"\\u00e9",'])
    body = b'{"items":[' + one * rng.choice([100, 10_000, 100_000]) + b"0]}"
    return Shot("wide JSON", (request(body, path=rng.choice(["/predict", "/predict_batch"])),))


def wrong_type(rng: random.Random) -> Shot:
    values: list[object] = [
        3,
        -1.5,
        True,
        None,
        [],
        {},
        ["a"],
        {"a": 1},
        "",
        "0",
        10**30,
        "a" * 300,
        [[[[]]]],
    ]
    names = [
        "designation",
        "description",
        "image",
        "items",
        "prediction_id",
        "prdtypecode",
        "explain",
        "x",
        "",
    ]
    body: object = {rng.choice(names): rng.choice(values) for _ in range(rng.randint(0, 4))}
    if rng.random() < 0.3:
        body = {"items": [rng.choice([*values, body]) for _ in range(rng.randint(0, 70))]}
    path = rng.choice(["/predict", "/predict_batch", "/feedback"])
    return Shot("wrong types", (request(to_json(body), path=path),))


def odd_text(rng: random.Random) -> Shot:
    alphabets = [
        "éàœçﬁ",
        "\u202e\u200b\ufeff",
        "😀👩‍👩‍👧",
        "\0\x01\x1f\x7f",
        "<b>&amp;<!--",
        "Ã©â‚¬",
        "漢字",
        "á̧̈",
        "' OR 1=1 --",
        "../%00{{7*7}}",
    ]
    text = "".join(rng.choices(rng.choice(alphabets), k=rng.choice([1, 30, 3_000])))
    return Shot("odd text", (request(to_json({"designation": text, "description": text[::-1]})),))


def long_text(rng: random.Random) -> Shot:
    text = rng.choice(["a", "é", "mot ", "<b>x</b>", "&eacute;"]) * rng.choice([500, 2_000, 30_000, 100_000])
    return Shot("long text", (request(to_json({"designation": title(rng), "description": text})),))


def no_json(rng: random.Random) -> Shot:
    numbers = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999999",
        "0" * 500,
        "9" * 20_000,
        "-",
        "0x10",
        "1_000",
        "01",
        "True",
    ]
    bodies = [
        f'{{"designation": {rng.choice(numbers)}}}'.encode(),
        f'{{"prediction_id": "{"0" * 32}", "prdtypecode": {rng.choice(numbers)}}}'.encode(),
        b'{"designation": "\\ud8' + rng.choice([b"00", b"00\\ud800", b"0"]) + b'"}',
        "\ufeff{}".encode(),
        to_json({"designation": title(rng)}).decode().encode("utf-16"),
        b'{"designation": "' + rng.randbytes(60) + b'"}',
        b"\xff\xfe\x00" * 100,
        b"",
        rng.randbytes(500),
        b'{"designation": "a", "designation": ["b"]}',
        b"{'designation': 'a'}",
        b'{"designation": "a",}',
        b'// no\n{"designation": "a"}',
        b'{"designation": "' + b"\\\\" * rng.choice([200, 200_000]) + b'"}',
        b'{"designation": "' + b'\\"' * rng.choice([200, 200_000]) + b'"}',
    ]
    path = rng.choice(["/predict", "/predict", "/feedback"])
    return Shot("no JSON", (request(rng.choice(bodies), path=path),))


def cut_json(rng: random.Random) -> Shot:
    body = bytearray(to_json({"designation": title(rng), "description": title(rng), "image": b64(photo())}))
    if rng.random() < 0.5:
        del body[rng.randrange(len(body)) :]
    else:
        for _ in range(rng.randint(1, 5)):
            body[rng.randrange(len(body))] = rng.randrange(256)
    return Shot("mutated JSON", (request(bytes(body)),))


def address(rng: random.Random) -> Shot:
    where = rng.choice(
        ["http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "data:,x"]
    )
    if rng.random() < 0.3:
        return Shot("address", (form(('; name="image"', where.encode())),))
    return Shot("address", (request(to_json({"designation": where, "image": where})),))


def batch(rng: random.Random) -> Shot:
    choices: list[object] = [
        {"designation": title(rng)},
        {},
        None,
        {"image": "%"},
        {"designation": 1},
        {"image": b64(photo()[:90])},
    ]
    items = [rng.choice(choices) for _ in range(rng.choice([1, 5, 12, 65, 1_000]))]
    return Shot("batch", (request(to_json({"items": items}), path="/predict_batch?explain=true"),))


def odd_form(rng: random.Random) -> Shot:
    ok = ('; name="designation"', title(rng).encode())
    made = rng.choice(
        [
            lambda: form(ok, ok),
            lambda: form(*[('; name="x"', b"y")] * rng.choice([1, 9, 5_000])),
            lambda: form(('; name="designation"; filename="../../etc/passwd\\0"', b"a")),
            lambda: form(("; name*=utf-8''designation", b"a")),
            lambda: form(('; name="designation"\r\nContent-Transfer-Encoding: base64', b"YQ==")),
            lambda: form(('; name="designation"\r\n' + "X: y\r\n" * 500 + "Z: z", b"a")),
            lambda: form(('; name="designation"\r\nX: ' + "y" * 50_000, b"a")),
            lambda: form(('; name="' + "n" * 4_000 + '"', b"a")),
            lambda: form(("", b"a")),
            lambda: form(('; name="designation"', b"a" * rng.choice([80_001, MB]))),
            lambda: form(('; name="explain"', rng.randbytes(9)), ok),
            lambda: form(ok)[: -rng.randint(1, 60)] + b"-" * 60,
            lambda: as_form(b"--\r\n", rng.choice(["", "a" * 300, '"', "=", ";"])),
            lambda: as_form(b"--xYzZY" * 10_000),
            lambda: as_form(rng.randbytes(2_000)),
            lambda: as_form(
                b'--xYzZY\r\nContent-Disposition: form-data; name="image"\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n--i\r\n\r\nx\r\n--i--\r\n--xYzZY--\r\n'
            ),
        ]
    )()
    return Shot("odd form", (made,))


def size(rng: random.Random) -> Shot:
    pick = rng.random()
    if pick < 0.9:
        declared = rng.choice([12 * MB + 1, 10**9, 10**18, 2**63, 2**64, 10**40])
        head = request(b"", path=rng.choice(["/predict", "/health", "/feedback"])).replace(
            b"Length: 0", b"Length: %d" % declared
        )
        return Shot("declared size", (head, b"x" * rng.choice([0, 10, 50_000])))
    if pick < 0.95:
        body = b'{"designation":"a","image":"' + b"A" * rng.choice([2 * MB, 9 * MB, 11 * MB]) + b'"}'
        return Shot("large body", (request(body),))
    pieces = [b"10000\r\n" + bytes(65536) + b"\r\n"] * rng.choice([50, 250])
    return Shot("endless chunks", (_chunked_head(), *pieces))


def _chunked_head() -> bytes:
    return request(b"", "Transfer-Encoding: chunked").replace(b"Content-Length: 0\r\n", b"")


def smuggled(rng: random.Random) -> Shot:
    inner = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    body = rng.choice([b"0\r\n\r\n" + inner, b"5\r\nhello\r\n0\r\n\r\n", inner, b"1\r\nZ\r\nQ"])
    extra = rng.choice(
        [
            ["Transfer-Encoding: chunked"],
            ["Transfer-Encoding: xchunked"],
            ["Transfer-Encoding : chunked"],
            ["Transfer-Encoding: chunked", "Transfer-encoding: identity"],
            ["Transfer-Encoding:\x0bchunked"],
            ["X: y\nTransfer-Encoding: chunked"],
            [f"Content-Length: {len(body) + 1}"],
            ["Content-Length: 0"],
            ["Host: other"],
            ["Expect: 100-continue", "Expect: 200-ok"],
            [" folded: header"],
            ["Connection: Content-Length"],
            ["Trailer: Content-Length"],
        ]
    )
    return Shot("smuggling", (request(body, *extra),))


def odd_head(rng: random.Random) -> Shot:
    ok = to_json({"designation": title(rng)})
    made = rng.choice(
        [
            lambda: request(
                ok,
                *[
                    f"X-{number}: {'y' * rng.randint(0, 50)}"
                    for number in range(rng.choice([90, 200, 5_000]))
                ],
            ),
            lambda: request(ok, "Cookie: " + "a" * rng.choice([1_000, 31_000, 100_000])),
            lambda: request(ok, path="/" + "a" * rng.choice([1_000, 40_000, 200_000])),
            lambda: request(ok, path="/predict?" + "explain=true&" * rng.choice([1, 500, 5_000])),
            lambda: request(
                ok,
                path=rng.choice(
                    [
                        "/../../etc/passwd",
                        "/page/..%2f..%2fsettings.py",
                        "/%00",
                        "//predict",
                        "/predict/",
                        "/PREDICT",
                        "*",
                        "http://other/predict",
                        "/page/%2e%2e/",
                        "/é",
                        "/%ff%fe",
                        "/docs/..;/metrics",
                        "/predict#x",
                    ]
                )
                .encode()
                .decode("latin-1"),
            ),
            lambda: request(
                ok,
                method=rng.choice(
                    ["PUT", "DELETE", "TRACE", "CONNECT", "PATCH", "PROPFIND", "BREW", "get", "G" * 50]
                ),
            ),
            lambda: request(ok).replace(
                b"HTTP/1.1",
                rng.choice([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"", b"HTTPS/1.1"]),
            ),
            lambda: request(ok).replace(
                b"application/json",
                rng.choice(
                    [
                        b"text/plain",
                        b"",
                        b"\xff",
                        b"a" * 1_000,
                        b"application/json; charset=utf-16",
                        b"application/json\x00",
                        b"APPLICATION/JSON",
                        b"application/x-www-form-urlencoded",
                        b"multipart/form-data",
                        b"application/vnd.bentoml+pickle",
                    ]
                ),
            ),
            lambda: request(ok, f"Content-Encoding: {rng.choice(['gzip', 'br', 'deflate, gzip', 'x'])}"),
            lambda: request(
                ok, f"Authorization: {rng.choice(['Bearer', 'Bearer ' + 'x' * 900, 'Basic eDp5', ''])}"
            ),
            lambda: request(
                ok,
                "Upgrade: websocket",
                "Sec-WebSocket-Key: YQ==",
                "Sec-WebSocket-Version: 13",
                path="/health",
            ).replace(b"Connection: close", b"Connection: upgrade"),
            lambda: request(ok, "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__").replace(
                b"Connection: close", b"Connection: Upgrade, HTTP2-Settings"
            ),
            lambda: request(
                ok,
                "X-Forwarded-For: " + rng.choice(["127.0.0.1", "' OR 1", "a" * 3_000]),
                "X-Forwarded-Proto: gopher",
            ),
            lambda: request(
                ok,
                "traceparent: 00-" + "f" * 32 + "-" + "f" * 16 + "-01",
                "tracestate: " + "a=b," * 500,
                "baggage: " + "a=b," * 500,
            ),
            lambda: request(
                ok, "Range: bytes=0-0,1-1,2-2,3-9999999999", method="GET", path="/docs/swagger-ui.css"
            ),
            lambda: request(ok, "If-None-Match: " + "\x80\\x" * 20, method="GET", path="/page/app.js"),
        ]
    )()
    return Shot("odd head", (made,))


def noise(rng: random.Random) -> Shot:
    made = rng.choice(
        [
            rng.randbytes(rng.randint(1, 3_000)) + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(500),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + rng.randbytes(50),
            b"\r\n" * rng.choice([10, 5_000]) + b"x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n",
            b"\0" * 5_000 + b"\r\n\r\n",
        ]
    )
    return Shot("noise", (made,))


def pipelined(rng: random.Random) -> Shot:
    one = rng.choice(
        [
            request(to_json({"designation": title(rng)})),
            request(b"{", path="/feedback"),
            b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        ]
    )
    return Shot(
        "pipelined", (one.replace(b"Connection: close\r\n", b"") * rng.choice([3, 30, 2_000]) + b"x\r\n\r\n",)
    )


def aborted(rng: random.Random) -> Shot:
    whole = request(to_json({"designation": title(rng), "image": b64(photo(side_px=rng.choice([20, 200])))}))
    return Shot("aborted", (whole[: rng.randrange(len(whole))],), reads=False)


def slow(rng: random.Random) -> Shot:
    body = to_json({"designation": title(rng)})
    head = request(body)[: -len(body)]
    pieces = rng.choice(
        [
            [b""],
            [b"\r\n"] * 40,
            [b"POST /predict HTTP/1.1\r\n", *[b"X: y\r\n"] * 40],
            [head, *[body[at : at + 1] for at in range(len(body))]],
            [_chunked_head(), *[b"1\r\n{\r\n"] * 40],
            [head.replace(b"Length: ", b"Length: 1"), body],
            [head.replace(b"Content-Length", b"Expect: 100-continue\r\nContent-Length")],
        ]
    )
    return Shot("slow", tuple(pieces), pause_s=0.25, is_slow=True)


def deaf(rng: random.Random) -> Shot:
    """Asks for much and reads nothing."""
    asset = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: a\r\n\r\n"
    return Shot("deaf", (asset * 3, b"", b"", b"", b""), pause_s=1.0, is_slow=True, reads=False)


# How often of each hundred; the rest comes from the published schema.
KINDS: dict[Make, float] = {
    bomb: 8, broken_photo: 10, polyglot: 6, odd_photo: 3, deep: 4, wide: 3, wrong_type: 10, odd_text: 5, long_text: 2,
    no_json: 8, cut_json: 6, address: 3, batch: 2, odd_form: 7, size: 2.5, smuggled: 5, odd_head: 8, noise: 4,
    pipelined: 1, aborted: 3, slow: 5, deaf: 0.2,
}  # fmt: skip


def own(rng: random.Random) -> Iterator[Shot]:
    """Without end."""
    makers, weights = list(KINDS), list(KINDS.values())
    while True:
        [make] = rng.choices(makers, weights)
        yield make(rng)


def from_schema(url: str, count: int) -> list[Shot]:
    """About `count` requests by schemathesis, half of which are to fit the schema of the service at `url`."""
    found: list[Shot] = []
    operations = [
        each.ok() for each in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations()
    ]
    posts = [each for each in operations if each.method == "post"]
    for operation in posts:
        for mode in GenerationMode:

            @seed(20261124)
            @settings(
                max_examples=count // (2 * len(posts)), database=None, deadline=None,
                phases=[Phase.generate], suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(operation.as_strategy(generation_mode=mode))
            def each(case: schemathesis.Case) -> None:
                found.append(Shot("by schemathesis", (_raw(case, url),)))

            each()
    return found


def _raw(case: schemathesis.Case, url: str) -> bytes:
    given_ = case.as_transport_kwargs(base_url=url)
    known = ("method", "url", "headers", "params", "json", "data", "files", "cookies")
    made = requests.Request(**{name: given_[name] for name in known if name in given_}).prepare()
    headers = {**made.headers, "Host": "test", "Connection": "close"}
    lines = [
        f"{made.method} {made.path_url} HTTP/1.1",
        *(f"{name}: {_text(value)}" for name, value in headers.items()),
    ]
    body = made.body.encode() if isinstance(made.body, str) else made.body or b""
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
