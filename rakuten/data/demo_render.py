"""Photos of the generated catalogue: coloured symbols on a tinted, noisy ground inside a white frame."""

import io
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from rakuten.data.demo_world import COLORS, SHAPES, IntArray

RGB = {
    "red": (214, 38, 44),
    "amber": (242, 165, 16),
    "green": (28, 142, 62),
    "cyan": (10, 180, 200),
    "blue": (36, 66, 204),
    "pink": (244, 110, 178),
    "black": (36, 36, 36),
}
GRID = 3  # symbols stand on a GRID x GRID lattice
MAX_BORDER = 0.12  # widest white frame, share of the side
NOISE = 4.0  # standard deviation of pixel noise, of 255
SUPERSAMPLE = 8


def render_photo(symbols: IntArray, side_px: int, rng: np.random.Generator) -> bytes:
    """JPEG bytes of a photo.

    Args:
        symbols: (9,) symbol of each lattice cell, -1 for an empty one.
        side_px: side of the square photo.
        rng: source of all that says nothing about the class: frame, tint, light, jitter, noise.
    """
    left, top, right, bottom = (round(side_px * share) for share in rng.uniform(0, MAX_BORDER, 4))
    height, width = side_px - top - bottom, side_px - left - right
    photo = np.full((side_px, side_px, 3), 255.0, dtype=np.float32)
    inner = photo[top : side_px - bottom, left : side_px - right]
    inner[:] = _ground(height, width, rng)
    cell = min(height, width) / GRID
    for place in np.nonzero(symbols >= 0)[0]:
        size = int(cell * rng.uniform(0.68, 0.9))
        slack_y, slack_x = height / GRID - size, width / GRID - size
        y = int(place // GRID * height / GRID + rng.uniform(0.1, 0.9) * slack_y)
        x = int(place % GRID * width / GRID + rng.uniform(0.1, 0.9) * slack_x)
        _stamp(inner[y : y + size, x : x + size], int(symbols[place]), size, rng)
    inner += rng.normal(0, NOISE, inner.shape).astype(np.float32)
    out = io.BytesIO()
    Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def _ground(height: int, width: int, rng: np.random.Generator) -> NDArray[np.float32]:
    # Stays well under white, so that the frame can be told from it.
    tint = rng.uniform(216, 238, 3)
    slope_y, slope_x = rng.uniform(-10, 10, 2)
    rows = np.linspace(-0.5, 0.5, height)[:, None, None] * slope_y
    columns = np.linspace(-0.5, 0.5, width)[None, :, None] * slope_x
    return np.asarray(tint + rows + columns, dtype=np.float32)


def _stamp(patch: NDArray[np.float32], symbol: int, size: int, rng: np.random.Generator) -> None:
    mask = _mask(SHAPES[symbol // len(COLORS)], size)[: patch.shape[0], : patch.shape[1], None]
    color = np.array(RGB[COLORS[symbol % len(COLORS)]]) + rng.uniform(-15, 15, 3)
    patch += mask * (color.astype(np.float32) - patch)


@cache
def _mask(shape: str, size: int) -> NDArray[np.float32]:
    """(size, size) opacity of a symbol, 0 to 1, with smooth edges."""
    side = size * SUPERSAMPLE
    canvas = Image.new("L", (side, side))
    pen = ImageDraw.Draw(canvas)
    if shape == "disc":
        pen.ellipse((0, 0, side - 1, side - 1), fill=255)
    else:
        pen.rectangle((0.34 * side, 0, 0.66 * side, side - 1), fill=255)
        pen.rectangle((0, 0.34 * side, side - 1, 0.66 * side), fill=255)
    small = canvas.resize((size, size), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def break_photo(photo: bytes, how: str) -> bytes | None:
    """What is left of a photo's file: None for no file at all."""
    broken = {
        "missing": None,
        "empty": b"",
        "truncated": photo[: len(photo) // 3],
        "not an image": b"<html><body>404 Not Found</body></html>\n",
    }
    return broken[how]


BREAKAGES = ("missing", "empty", "truncated", "not an image")
