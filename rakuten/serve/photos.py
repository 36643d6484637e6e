"""What a photo declares, read from its first bytes: no decoder sees one that is too large or of another format."""

import struct
from dataclasses import dataclass
from typing import Final, Literal

from rakuten.serve.settings import RequestLimits

Format = Literal["JPEG", "PNG", "WebP"]
SEGMENTS: Final = 500  # of a JPEG before its size; a photo has twenty
SCANS: Final = 100  # of a progressive JPEG, each of which is work of its own
USUAL_SCANS: Final = 12  # an encoder makes ten; more only of fewer pixels, so that the work is no more
HEAVY_PIXELS: Final = 2_000_000  # drawn whole, 30 ms and 20 MB; of a JPEG, which seldom is, six times as many
CHUNKS: Final = 5_000  # of a PNG, walked in a millisecond: the largest in the smallest usual chunks has 2,000
_SIZES: Final = {0xC0, 0xC1, 0xC2}  # frame headers of the JPEG processes that decoders know


class PhotoError(Exception):
    """Why a photo cannot be taken, in words for whoever sent it."""


@dataclass(frozen=True)
class Declared:
    format: Format
    width_px: int
    height_px: int

    @property
    def pixels(self) -> int:
        return self.width_px * self.height_px


def check_photo(data: bytes, limits: RequestLimits) -> Declared:
    """What `data` says that it is; a few microseconds, whatever it holds.

    Raises:
        PhotoError: by content no JPEG, PNG or WebP, cut off before its size, of more bytes, pixels or parts than allowed.
    """
    if len(data) > limits.image_bytes:
        raise PhotoError(f"{len(data):,} bytes; at most {limits.image_bytes:,} are taken")
    found = declared(data)
    most = limits.image_pixels if found.format == "JPEG" else limits.image_pixels_whole
    if not 0 < found.pixels <= most:
        size = f"{found.width_px} x {found.height_px}"
        raise PhotoError(f"{size} pixels; a {found.format} of 1 to {most:,} is taken")
    if found.format == "JPEG":
        # Within compressed data FF is followed by 00, so that each FF DA begins a scan (or is a thumbnail's).
        scans = data.count(b"\xff\xda")
        if scans > SCANS or (scans > USUAL_SCANS and scans * found.pixels > USUAL_SCANS * most):
            raise PhotoError(f"{scans} scans")
    return found


def is_heavy(data: bytes) -> bool:
    """Whether decoding it takes so much time and memory that it is to be done one at a time."""
    try:
        found = declared(data)
    except PhotoError:
        return False
    return found.pixels > (6 if found.format == "JPEG" else 1) * HEAVY_PIXELS


def declared(data: bytes) -> Declared:
    """
    Raises:
        PhotoError: by content no JPEG, PNG or WebP, or cut off before its size.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return Declared("JPEG", *_jpeg_size(data))
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return Declared("PNG", *_png_size(data))
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return Declared("WebP", *_webp_size(data))
    except (struct.error, IndexError) as error:
        raise PhotoError("cut off before its size") from error
    raise PhotoError("by its content no JPEG, PNG or WebP")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """ITU-T T.81, B.1 and B.2: segments, each with its length, until the frame header."""
    at = 2
    for _ in range(SEGMENTS):
        marker, code = data[at], data[at + 1]
        if code == 0xFF:  # a fill byte
            at += 1
            continue
        if marker != 0xFF or code == 0xDA:
            raise PhotoError("a JPEG without a size")
        if code in _SIZES:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise PhotoError(f"more than {SEGMENTS} segments before its size")


def _png_size(data: bytes) -> tuple[int, int]:
    """PNG (W3C), 11.2.1: the header comes first. Its chunks are counted too, since decoders walk them one by one."""
    width, height = struct.unpack_from(">II", data, 16)
    at = 8
    for _ in range(CHUNKS):
        if at + 8 > len(data) or data[at + 4 : at + 8] == b"IEND":
            return width, height
        at += 12 + struct.unpack_from(">I", data, at)[0]
    raise PhotoError(f"more than {CHUNKS} chunks")


def _webp_size(data: bytes) -> tuple[int, int]:
    """RFC 9649, 2.5 to 2.7: the first chunk has the size, lossy, lossless or of the canvas."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        _ = data[29]
        return width, height
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise PhotoError("a WebP without a size")
