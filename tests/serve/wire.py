"""Bytes over a socket, for what no HTTP client would send, and photos of every kind."""

import io
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Answer:
    """What came back until the other side closed, or nothing more came; `status` 0 where there was no answer."""

    raw: bytes
    closed: bool
    seconds: float

    @property
    def status(self) -> int:
        return int(self.raw[9:12]) if self.raw.startswith(b"HTTP/1.1 ") else 0

    @property
    def statuses(self) -> list[int]:
        """Of several answers, one after another."""
        return [int(each[:3]) for each in self.raw.split(b"HTTP/1.1 ")[1:]]

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def connect(url: str, timeout_s: float = 30) -> socket.socket:
    where = urlsplit(url)
    return socket.create_connection((where.hostname, where.port or 80), timeout=timeout_s)


def talk(url: str, pieces: bytes | Iterable[bytes], *, pause_s: float = 0, timeout_s: float = 30) -> Answer:
    """Sends the pieces, `pause_s` between them, as long as they are taken; reads until the end or for `timeout_s`."""
    began = time.monotonic()
    with connect(url, timeout_s) as wire:
        try:
            for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                wire.sendall(piece)
                time.sleep(pause_s)
        except OSError:  # it has been cut: what was said before?
            pass
        raw, closed = read(wire)
    return Answer(raw, closed, time.monotonic() - began)


def read(wire: socket.socket) -> tuple[bytes, bool]:
    """What comes until the other side closes, and whether it did so before the socket's timeout."""
    raw = b""
    try:
        while piece := wire.recv(65536):
            raw += piece
    except TimeoutError:
        return raw, False
    except OSError:
        pass
    return raw, True


def request(body: bytes = b"", *headers: str, method: str = "POST", path: str = "/predict") -> bytes:
    """A whole request with a JSON body, after which the connection is closed."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def photo(
    format_: str = "JPEG", side_px: int = 48, *, mode: str = "RGB", seed: int = 0, **options: object
) -> bytes:
    """An encoded photo of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, format_, **options)
    return out.getvalue()


def blank(format_: str, width_px: int, height_px: int, mode: str = "L", **options: object) -> bytes:
    """An encoded photo of one colour: few bytes, however many pixels."""
    out = io.BytesIO()
    Image.new(mode, (width_px, height_px), 255 if mode in "L1" else "white").save(out, format_, **options)
    return out.getvalue()
