"""The store: exactly what preprocessing gives, also after a kill."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rakuten.config import Limits
from rakuten.data import store as store_module
from rakuten.data.preprocess import Preprocessor, Product
from rakuten.data.store import FeatureStore, build_pixel_store, build_token_store
from rakuten.data.text_encoder import load_encoder
from tests.model.tiny import LIMITS, TEXT_KINDS, model_config, photo, preprocessor, product

ROOT = Path(__file__).parents[2]
NUM_PHOTOS = 40


@pytest.fixture
def photos(tmp_path: Path) -> list[Path | None]:
    """Photos of several sizes; every seventh product has none, one file is torn, one is not there."""
    folder = tmp_path / "photos"
    folder.mkdir()
    paths: list[Path | None] = []
    for number in range(NUM_PHOTOS):
        path = folder / f"{number:03}.png"
        path.write_bytes(photo(number, px=20 + number))
        paths.append(None if number % 7 == 0 else path)
    (folder / "003.png").write_bytes(photo(3)[:60])
    (folder / "004.png").unlink()
    return paths


def pixels_only(side_px: int = 24, limits: Limits = LIMITS) -> Preprocessor:
    return Preprocessor(None, side_px, True, limits)


def test_pixels_equal_preprocessing_on_the_fly(tmp_path: Path, photos: list[Path | None]) -> None:
    built = build_pixel_store(tmp_path / "pixels", photos, pixels_only())
    store = FeatureStore(None, built)
    expected = pixels_only()([Product(image=path) for path in photos])
    for row, example in enumerate(expected):
        stored = store[row]
        assert (stored.pixels is None) == (example.pixels is None), row
        if example.pixels is not None:
            assert np.array_equal(stored.pixels, example.pixels)
    assert built.present.sum() == sum(path is not None for path in photos) - 2


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_tokens_equal_preprocessing_on_the_fly(tmp_path: Path, kind: str) -> None:
    processor = preprocessor(model_config(kind, None))
    products = [product(seed, text=seed % 5 != 0, image=False) for seed in range(30)]
    products += [Product("titre seul"), Product(None, "description seule"), Product("<br>", "&nbsp;")]
    titles, texts = (
        [processor.clean(getattr(p, name)) for p in products] for name in ("designation", "description")
    )
    store = FeatureStore(build_token_store(tmp_path / "tokens", processor, titles, texts), None)
    assert store.tokens is not None
    assert len(store.tokens.lengths) == len(products)
    for row, example in enumerate(processor(products)):
        stored = store[row].tokens
        assert (stored is None) == (example.tokens is None), row
        if stored is not None and example.tokens is not None:
            assert np.array_equal(stored.ids, example.tokens.ids)
            assert np.array_equal(stored.weights, example.tokens.weights)
        assert store.tokens.lengths[row] == (0 if example.tokens is None else len(example.tokens))


@pytest.mark.parametrize("kind", TEXT_KINDS)
def test_the_tokenizer_lies_beside_its_tokens(tmp_path: Path, kind: str) -> None:
    processor = preprocessor(model_config(kind, None))
    build_token_store(tmp_path / "tokens", processor, ["livre"], [""])
    assert processor.text_encoder is not None
    assert load_encoder(tmp_path / "tokens").fingerprint() == processor.text_encoder.fingerprint()


def test_a_store_that_is_there_is_not_built_again(tmp_path: Path, photos: list[Path | None]) -> None:
    first = build_pixel_store(tmp_path / "pixels", photos, pixels_only())
    for path in photos:
        if path is not None:
            path.unlink(missing_ok=True)
    again = build_pixel_store(tmp_path / "pixels", photos, pixels_only())
    assert np.array_equal(first.pixels, again.pixels)


def test_no_products(tmp_path: Path) -> None:
    processor = preprocessor(model_config("ngram", None))
    assert len(build_token_store(tmp_path / "tokens", processor, [], []).lengths) == 0


_BUILD = """
import sys, time
from pathlib import Path
from rakuten.config import Limits
from rakuten.data import store
from rakuten.data.preprocess import Preprocessor

store.CHUNK_ROWS = 8
folder, photos = Path(sys.argv[1]), Path(sys.argv[2])
paths = [None if number % 7 == 0 else photos / f"{number:03}.png" for number in range(int(sys.argv[3]))]
decode = store._decode
def slowly(path, preprocessor):
    time.sleep(0.05)
    return decode(path, preprocessor)
store._decode = slowly
limits = Limits(image_bytes=1_000_000, image_pixels=4_000_000, text_chars=2_000)
store.build_pixel_store(folder, paths, Preprocessor(None, 24, True, limits))
"""


def test_a_killed_build_goes_on_and_ends_as_an_undisturbed_one(
    tmp_path: Path, photos: list[Path | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, progress = tmp_path / "pixels", tmp_path / "pixels.partial/progress.json"
    arguments = [str(folder), str(tmp_path / "photos"), str(NUM_PHOTOS)]
    process = subprocess.Popen([sys.executable, "-c", _BUILD, *arguments], cwd=ROOT)
    while not progress.is_file() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not folder.exists()

    monkeypatch.setattr(store_module, "CHUNK_ROWS", 8)
    decoded: list[Path | None] = []
    decode = store_module._decode

    def counted(path: Path | None, processor: Preprocessor) -> np.ndarray | None:
        decoded.append(path)
        return decode(path, processor)

    monkeypatch.setattr(store_module, "_decode", counted)
    resumed = build_pixel_store(folder, photos, pixels_only())
    assert 0 < len(decoded) < NUM_PHOTOS  # went on where a whole chunk had ended
    undisturbed = build_pixel_store(tmp_path / "other", photos, pixels_only())
    assert np.array_equal(resumed.present, undisturbed.present)
    assert np.array_equal(resumed.pixels[resumed.present], undisturbed.pixels[undisturbed.present])
    assert not progress.parent.exists()


@pytest.mark.parametrize("left", ["{", "", '{"other": 1}', "[]"])
def test_torn_progress_starts_again(tmp_path: Path, photos: list[Path | None], left: str) -> None:
    partial = tmp_path / "pixels.partial"
    partial.mkdir()
    (partial / "progress.json").write_text(left, encoding="utf-8")
    (partial / "pixels.npy").write_bytes(b"\x93NUMPY torn")
    built = build_pixel_store(tmp_path / "pixels", photos, pixels_only())
    assert built.present.sum() == sum(path is not None for path in photos) - 2


def test_progress_without_its_arrays_starts_again(tmp_path: Path, photos: list[Path | None]) -> None:
    partial = tmp_path / "pixels.partial"
    partial.mkdir()
    (partial / "progress.json").write_text('{"rows": 8}', encoding="utf-8")
    built = build_pixel_store(tmp_path / "pixels", photos, pixels_only())
    assert built.present.sum() == sum(path is not None for path in photos) - 2


def test_a_photo_that_is_too_large_is_absent_not_fatal(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("1", (3_000, 2_000)).save(stream, "PNG")
    path = tmp_path / "bomb.png"
    path.write_bytes(stream.getvalue())
    assert build_pixel_store(tmp_path / "pixels", [path, None], pixels_only()).present.tolist() == [
        False,
        False,
    ]
