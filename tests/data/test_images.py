"""The state of a photo is told from its content, and nothing at its path breaks the check."""

import os
import random
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from rakuten.config import DataConfig
from rakuten.data.images import ImageState, check_image, check_images

MakeConfig = Callable[..., DataConfig]


def encoded(fmt: str, size: tuple[int, int] = (24, 24), **options: Any) -> bytes:
    stream = BytesIO()
    # Noise does not compress, so that cutting the file cuts pixels.
    Image.frombytes("RGB", size, random.Random(0).randbytes(size[0] * size[1] * 3)).save(
        stream, fmt, **options
    )
    return stream.getvalue()


PHOTOS = {fmt: encoded(fmt) for fmt in ("JPEG", "PNG", "WEBP")}


def test_folders_pipes_and_dangling_links_are_no_photos(make_data_config: MakeConfig, tmp_path: Path) -> None:
    limits = make_data_config().limits
    folder, pipe, link = (tmp_path / name for name in ("folder", "pipe", "link"))
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to("nowhere")
    states = [check_image(path, limits) for path in (folder, pipe, link, folder / "x", Path("a\0b"))]
    nothing = ImageState.MISSING
    assert states == [ImageState.NOT_AN_IMAGE, ImageState.NOT_AN_IMAGE, nothing, nothing, nothing]


def test_decompression_bomb_is_not_decoded(make_data_config: MakeConfig, tmp_path: Path) -> None:
    png = bytearray(encoded("PNG"))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb").write_bytes(png)
    assert check_image(tmp_path / "bomb", make_data_config().limits) is ImageState.TOO_LARGE


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_check_image_never_raises(tmp_path: Path, make_data_config: MakeConfig, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([PHOTOS[fmt] for fmt in sorted(PHOTOS)])))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "photo"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    assert check_image(path, make_data_config().limits) in ImageState


def test_checks_come_back_in_order(make_data_config: MakeConfig, tmp_path: Path) -> None:
    """More photos than one task of the pool holds."""
    paths: list[Path | None] = []
    for n in range(200):
        path = tmp_path / str(n)
        path.write_bytes(PHOTOS["JPEG"][: None if n % 3 else 50])
        paths.append(None if n % 5 == 0 else path)
    checks = check_images(paths, make_data_config().limits, console=None)
    expected = ["none" if n % 5 == 0 else "ok" if n % 3 else "truncated" for n in range(200)]
    assert [check.state.value for check in checks] == expected
    assert len({check.digest for check in checks}) == 3
