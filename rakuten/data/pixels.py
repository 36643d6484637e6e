"""One photo -> (3, S, S) uint8: the same function trains, evaluates and serves."""

import io
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from rakuten.config import Limits
from rakuten.errors import DataError

FORMATS: Final = ("JPEG", "PNG", "WEBP")
WHITE_TOLERANCE: Final = 12  # of 255: JPEG rings around a white border


def load_pixels(source: bytes | Path, side_px: int, trim_border: bool, limits: Limits) -> NDArray[np.uint8]:
    """RGB pixels (3, S, S) of an encoded photo, its white border cut, padded with white to a square, resized.

    Raises:
        DataError: not a JPEG, PNG or WebP by content, truncated, or larger than `limits` before decoding.
    """
    data = source if isinstance(source, bytes) else _read(source, limits.image_bytes)
    if len(data) > limits.image_bytes:
        raise DataError(
            "photo too large", expected=f"<= {limits.image_bytes} bytes", got=f"{len(data)} bytes"
        )
    image = _decode(data, side_px, limits.image_pixels)
    if trim_border:
        image = _trim(image)
    return np.ascontiguousarray(np.asarray(_fit(image, side_px), dtype=np.uint8).transpose(2, 0, 1))


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit_bytes + 1)
    except OSError as error:
        raise DataError(f"photo {path.name} cannot be read", got=error.strerror) from error


def _decode(data: bytes, side_px: int, limit_pixels: int) -> Image.Image:
    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
        if opened.width * opened.height > limit_pixels:
            raise DataError(
                "photo too large",
                expected=f"<= {limit_pixels} pixels",
                got=f"{opened.width} x {opened.height}",
            )
        # Decodes a JPEG at the smallest of 1/1 .. 1/8 scale that is at least this large: several times faster.
        opened.draft("RGB", (4 * side_px, 4 * side_px))
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith("I"):  # 16 bits of gray, which convert() would clip to white
            image = image.point(lambda value: value / 256).convert("L")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return image.convert("RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever their format trips over
        raise DataError(
            "photo cannot be decoded",
            expected="a whole JPEG, PNG or WebP",
            got=f"{type(error).__name__}: {error}",
        ) from error


def _fit(image: Image.Image, side_px: int) -> Image.Image:
    """Resized to fit a white square; first resized, since the square around a photo of 1 x 50,000,000 fits nowhere."""
    longest = max(image.size)
    width, height = (max(1, round(side_px * side / longest)) for side in image.size)
    small = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    square = Image.new("RGB", (side_px, side_px), "white")
    square.paste(small, ((side_px - width) // 2, (side_px - height) // 2))
    return square


def _trim(image: Image.Image) -> Image.Image:
    """The part that is not white border; the whole image where it is all white or the rest a few specks."""
    distance = ImageChops.difference(image, Image.new("RGB", image.size, "white")).convert("L")
    box = distance.point(lambda value: 255 * (value > WHITE_TOLERANCE)).getbbox()
    if box is None or min(box[2] - box[0], box[3] - box[1]) < 0.05 * max(image.size):
        return image
    return image.crop(box)
