"""Photos of every kind -> the same square of RGB."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rakuten.config import Limits
from rakuten.data.pixels import load_pixels
from rakuten.errors import DataError

LIMITS = Limits(image_bytes=200_000, image_pixels=1_000_000, text_chars=100)
SIDE = 32
RED, WHITE = (200, 30, 30), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def load(
    source: bytes | Path, *, trim: bool = False, limits: Limits = LIMITS, side_px: int = SIDE
) -> np.ndarray:
    return load_pixels(source, side_px, trim, limits)


def color_at(pixels: np.ndarray, x: float, y: float) -> tuple[int, ...]:
    """RGB at shares of width and height."""
    side = pixels.shape[1]
    return tuple(int(value) for value in pixels[:, int(y * side), int(x * side)])


def near(color: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 6) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(color, expected, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(32, 32), (100, 100), (1, 1), (500, 500), (31, 33)])
def test_shape_and_color(kind: str, size: tuple[int, int]) -> None:
    pixels = load(encoded(Image.new("RGB", size, RED), kind))
    assert pixels.shape == (3, SIDE, SIDE)
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    assert near(color_at(pixels, 0.5, 0.5), RED)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("RGBA", (40, 40), (*RED, 255)), RED),
        (Image.new("RGBA", (40, 40), (*RED, 0)), WHITE),
        (Image.new("RGBA", (40, 40), (0, 0, 0, 128)), (127, 127, 127)),
        (Image.new("LA", (40, 40), (90, 255)), (90, 90, 90)),
        (Image.new("L", (40, 40), 90), (90, 90, 90)),
        (Image.new("1", (40, 40), 1), WHITE),
        (Image.new("RGB", (40, 40), RED).convert("P", palette=Image.Palette.ADAPTIVE), RED),
        (Image.fromarray(np.full((40, 40), 90 * 256, np.uint16)), (90, 90, 90)),
    ],
    ids=["opaque", "transparent", "half", "gray alpha", "gray", "one bit", "palette", "16 bits"],
)
def test_modes_of_png(image: Image.Image, expected: tuple[int, ...]) -> None:
    assert near(color_at(load(encoded(image)), 0.5, 0.5), expected)


def test_a_transparent_palette_is_white_there() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([*RED, 0, 0, 255])
    image.paste(1, (0, 0, 20, 40))
    pixels = load(encoded(image, transparency=1))
    assert near(color_at(pixels, 0.25, 0.5), WHITE)
    assert near(color_at(pixels, 0.75, 0.5), RED)


def test_cmyk_is_not_inverted() -> None:
    pixels = load(encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG"))
    red, green, blue = color_at(pixels, 0.5, 0.5)
    assert red > 180
    assert max(green, blue) < 80


def test_a_gray_jpeg() -> None:
    assert near(color_at(load(encoded(Image.new("L", (40, 40), 90), "JPEG")), 0.5, 0.5), (90, 90, 90))


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0.1, 0.1)), (3, (0.9, 0.9)), (6, (0.9, 0.1)), (8, (0.1, 0.9))]
)
def test_cameras_that_were_turned(orientation: int, corner: tuple[float, float]) -> None:
    image = Image.new("RGB", (400, 400), "blue")
    ImageDraw.Draw(image).rectangle((0, 0, 199, 199), fill=RED)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = load(encoded(image, "JPEG", exif=exif, quality=95))
    assert near(color_at(pixels, *corner), RED, 12)


def test_the_white_border_goes() -> None:
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).rectangle((60, 80, 139, 159), fill=RED)
    trimmed, whole = (load(encoded(image, "JPEG", quality=95), trim=trim) for trim in (True, False))
    for corner in ((0.1, 0.1), (0.9, 0.1), (0.1, 0.9), (0.9, 0.9)):
        assert near(color_at(trimmed, *corner), RED, 12)
        assert near(color_at(whole, *corner), WHITE)


@pytest.mark.parametrize("trim", [True, False])
def test_all_white_stays_white(trim: bool) -> None:
    assert (load(encoded(Image.new("RGB", (90, 90), "white")), trim=trim) == 255).all()


def test_a_speck_is_not_a_product() -> None:
    image = Image.new("RGB", (200, 200), "white")
    image.putpixel((150, 20), RED)
    assert load(encoded(image), trim=True).mean() > 250


@pytest.mark.parametrize("trim", [True, False])
def test_the_aspect_ratio_is_kept(trim: bool) -> None:
    """Twice as wide as high: bands of white above and below, not a squeezed photo."""
    pixels = load(encoded(Image.new("RGB", (200, 100), RED)), trim=trim)
    assert near(color_at(pixels, 0.5, 0.1), WHITE)
    assert near(color_at(pixels, 0.5, 0.9), WHITE)
    assert near(color_at(pixels, 0.05, 0.5), RED)
    assert near(color_at(pixels, 0.95, 0.5), RED)
    share = (pixels[1] < 128).mean()
    assert share == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (2, 30_000), (999_999, 1)])
def test_extreme_aspect_ratios_take_no_more_memory_than_they_have_pixels(size: tuple[int, int]) -> None:
    """A square around one of these would hold up to 10**12 pixels."""
    pixels = load(encoded(Image.new("RGB", size, RED)))
    assert pixels.shape == (3, SIDE, SIDE)
    assert (pixels[1] < 128).sum() == SIDE  # a line, one pixel thick


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_bomb_is_refused_before_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(Image.new("1" if kind == "PNG" else "RGB", (2_000, 1_000)), kind)

    def decoded(*_: object) -> None:
        raise AssertionError("was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(DataError, match="photo too large") as caught:
        load(content)
    assert caught.value.got == "2000 x 1000"


def test_the_limits_themselves_are_allowed() -> None:
    assert load(encoded(Image.new("1", (1_000, 1_000)))).shape == (3, SIDE, SIDE)


def test_too_many_bytes(tmp_path: Path) -> None:
    content = encoded(Image.new("RGB", (20, 20), RED)) + bytes(LIMITS.image_bytes)
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(DataError, match="photo too large"):
            load(source)


JPEG = encoded(Image.effect_noise((300, 300), 80).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an image",
        JPEG[:200],
        JPEG[: len(JPEG) // 2],
        b"\xff\xd8\xff" + bytes(300),
        b"\x89PNG\r\n\x1a\n" + bytes(300),
        encoded(Image.new("RGB", (30, 30)), "GIF"),
        encoded(Image.new("RGB", (30, 30)), "BMP"),
        encoded(Image.new("RGB", (30, 30)), "TIFF"),
    ],
    ids=["empty", "text", "head", "half", "jpeg mark", "png mark", "gif", "bmp", "tiff"],
)
def test_what_is_no_photo_is_refused(content: bytes) -> None:
    with pytest.raises(DataError, match="cannot be decoded"):
        load(content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "nowhere.jpg")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path)


def test_path_and_bytes_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(JPEG)
    assert np.array_equal(load(path), load(JPEG))


@pytest.mark.parametrize("side_px", [16, 48, 224])
def test_any_size(side_px: int) -> None:
    assert load(JPEG, side_px=side_px).shape == (3, side_px, side_px)
