"""What models read: reused while it is right, built anew when it is not, shared by runs that start together."""

import csv
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rakuten.cli import compose
from rakuten.config import TrainConfig
from rakuten.data import store
from rakuten.data.features import Features, load_features
from rakuten.data.ingest import ingest
from rakuten.data.ingest_report import IngestReport
from rakuten.data.preprocess import Preprocessor
from rakuten.errors import DataError

ROOT = Path(__file__).parents[2]
SMALL = ["model.text.num_buckets=512", "model.text.max_tokens=32", "model.image.image_px=16", "tracking=off"]
Row = list[str]


def table(num_rows: int = 40) -> list[Row]:
    """index, designation, description, productid, imageid, code"""
    return [
        [str(i), f"article {i * 7919} de marque {i * 104729}", "" if i % 3 else f"livré en {i} jours",
         str(1000 + i), str(i), "10" if i % 2 else "40"]
        for i in range(num_rows)
    ]  # fmt: skip


def write(root: Path, rows: list[Row]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, columns in (("X_train.csv", slice(0, 5)), ("Y_train.csv", [0, 5])):
        header = ["", "designation", "description", "productid", "imageid", "prdtypecode"]
        with (root / name).open("w", encoding="utf-8", newline="") as file:
            for row in [header, *rows]:
                cells = row[columns] if isinstance(columns, slice) else [row[i] for i in columns]
                csv.writer(file).writerow(cells)


def write_photo(root: Path, row: Row, color: int) -> None:
    path = root / f"images/image_train/image_{row[4]}_product_{row[3]}.jpg"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), (color, 255 - color, 128)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    write(folder, table())
    for number, row in enumerate(table()):
        write_photo(folder, row, 5 * number)
    return folder


@pytest.fixture
def make(root: Path, tmp_path: Path) -> Callable[..., TrainConfig]:
    def make(*overrides: str, model: str = "fusion_small") -> TrainConfig:
        small = [each for each in SMALL if model.split("_")[0] in each or model == "fusion_small"]
        places = [f"data.root={root}", f"data.interim_dir={tmp_path / 'interim'}"]
        places += [f"data.processed_dir={tmp_path / 'processed'}", "data.prepare=here"]
        split = ["data.split.near_duplicate=1.0", "data.split.test=0.3"]
        return compose("train", ["data=rakuten", f"model={model}", *small, *places, *split, *overrides])

    return make


def load(config: TrainConfig) -> Features:
    return load_features(config.data, config.model)


@contextmanager
def work() -> Iterator[dict[str, int]]:
    """Counts photos decoded and products tokenized while it is open."""
    done = {"photos": 0, "texts": 0}
    pixels, tokens = Preprocessor.pixels, Preprocessor.tokens

    def count_pixels(self: Preprocessor, image: Any) -> Any:
        done["photos"] += 1
        return pixels(self, image)

    def count_tokens(self: Preprocessor, titles: Any, descriptions: Any) -> Any:
        done["texts"] += len(titles)
        return tokens(self, titles, descriptions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preprocessor, "pixels", count_pixels)
        patch.setattr(Preprocessor, "tokens", count_tokens)
        yield done


def test_what_is_right_is_read_and_not_built_again(make: Callable[..., TrainConfig]) -> None:
    with work() as first:
        one = load(make())
    assert first == {"photos": 40, "texts": 40}
    with work() as second:
        again = load(make())
    assert second == {"photos": 0, "texts": 0}
    assert one.fingerprint == again.fingerprint
    assert one.table.equals(again.table)


def test_a_changed_text_changes_the_texts_alone(make: Callable[..., TrainConfig], root: Path) -> None:
    before = load(make())
    rows = table()
    rows[7][1] = "tout autre chose"
    write(root, rows)
    with work() as done:
        after = load(make())
    assert after.table["designation"][7] == "tout autre chose"
    assert after.fingerprint != before.fingerprint
    assert done == {"photos": 0, "texts": 40}


def test_a_changed_photo_changes_its_pixels(make: Callable[..., TrainConfig], root: Path) -> None:
    before = load(make())
    assert before.store.photos is not None
    old = np.array(before.store.photos.pixels)
    write_photo(root, table()[7], 255)
    after = load(make())
    assert after.store.photos is not None
    changed = (np.array(after.store.photos.pixels) != old).any(axis=(1, 2, 3))
    assert np.flatnonzero(changed).tolist() == [7]
    assert after.fingerprint != before.fingerprint


def test_a_row_more_among_equal_photos_moves_those_behind_it(
    make: Callable[..., TrainConfig], root: Path
) -> None:
    """A product without a photo gets a text, and so its place in the table; no photo changed."""
    rows = table()
    rows[5][1:3] = ["", ""]
    rows[5][4] = ""
    write(root, rows)
    assert len(load(make()).table) == 39
    rows[5][1] = "enfin un titre"
    write(root, rows)
    features = load(make())
    assert len(features.table) == 40
    assert features.store.photos is not None
    assert len(features.store.photos.present) == 40
    assert np.flatnonzero(~features.store.photos.present).tolist() == [5]
    red = [int(features.store.photos.pixels[row][0].mean()) for row in (4, 6, 39)]
    assert red == pytest.approx([20, 30, 195], abs=6)


def test_another_salt_moves_products_and_decodes_nothing(make: Callable[..., TrainConfig]) -> None:
    first = load(make())
    with work() as done:
        second = load(make("data.split.salt=1"))
    assert done["photos"] == 0
    assert first.table["side"].tolist() != second.table["side"].tolist()
    assert first.fingerprint != second.fingerprint


def test_another_size_decodes_again_and_both_stay(make: Callable[..., TrainConfig]) -> None:
    load(make())
    with work() as larger:
        features = load(make("model.image.image_px=24"))
    assert larger == {"photos": 40, "texts": 0}
    assert features.store.photos is not None
    assert features.store.photos.pixels.shape == (40, 3, 24, 24)
    with work() as back:
        load(make())
    assert back == {"photos": 0, "texts": 0}


def test_models_in_turn_share_what_they_can(make: Callable[..., TrainConfig]) -> None:
    with work() as text:
        assert load(make(model="text_small")).store.photos is None
    assert text == {"photos": 0, "texts": 40}
    with work() as image:
        assert load(make(model="image_small")).store.tokens is None
    assert image == {"photos": 40, "texts": 0}
    with work() as both:
        load(make())
        load(make(model="text_small"))
    assert both == {"photos": 0, "texts": 0}


def test_an_older_version_of_the_catalogue_is_cleared_away(
    make: Callable[..., TrainConfig], root: Path, tmp_path: Path
) -> None:
    load(make())
    write(root, table(30))
    load(make())
    kinds = sorted(
        path.name.split("-")[0] for path in (tmp_path / "processed/store").iterdir() if path.is_dir()
    )
    assert kinds == ["pixels", "tokens"]


def test_a_killed_build_goes_on_where_it_was(
    make: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK_ROWS", 8)
    undisturbed, pixels = Preprocessor.pixels, []

    def stop(self: Preprocessor, image: Any) -> Any:
        pixels.append(image)
        if len(pixels) > 20:
            raise KeyboardInterrupt
        return undisturbed(self, image)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Preprocessor, "pixels", stop)
        with pytest.raises(KeyboardInterrupt):
            load(make())
    with work() as done:
        features = load(make())
    assert done["photos"] == 24
    assert features.store.photos is not None
    assert [int(image[0].mean()) for image in features.store.photos.pixels] == pytest.approx(
        [5 * number for number in range(40)], abs=6
    )


def test_a_torn_table_is_made_again(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    load(make())
    (tmp_path / "processed/features.json").write_text("{")
    assert len(load(make()).table) == 40


def test_what_fits_is_read_and_the_rest_is_built_in_the_cache(
    make: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    load(make())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "processed").rglob("*") if path.is_file()}
    cache = ["data.prepare=cache", f"data.cache_dir={tmp_path / 'cache'}"]
    with work() as done:
        assert load(make(*cache)).data.processed_dir == tmp_path / "processed"
    assert done == {"photos": 0, "texts": 0}
    assert not list((tmp_path / "cache").rglob("*.csv"))

    other = load(make(*cache, "data.split.salt=1"))
    assert other.data.processed_dir == tmp_path / "cache/processed"
    load(make(*cache, "data.split.salt=1", "data.prepare=never"))  # reads the pipeline's table
    load(make(*cache, "model.image.image_px=24"))
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "processed").rglob("*") if path.is_file()}
    assert after == before


def test_a_stage_takes_what_another_left_without_raw_data(
    make: Callable[..., TrainConfig], root: Path
) -> None:
    built = load(make())
    shutil.rmtree(root)
    with work() as done:
        taken = load(make("data.prepare=never"))
    assert taken.fingerprint == built.fingerprint
    assert done == {"photos": 0, "texts": 0}


def test_a_stage_builds_on_what_ingest_left(make: Callable[..., TrainConfig], tmp_path: Path) -> None:
    config = make("data.prepare=never")
    with pytest.raises(DataError, match="features are not built"):
        load(config)
    ingested = ingest(config.data, console=None)
    (tmp_path / "raw/X_train.csv").write_text("changed since")
    load_features(config.data, config.model, stage=True)
    assert IngestReport.load(tmp_path / "interim/ingest.json") == ingested
    assert len(load(config).table) == 40


@pytest.mark.parametrize("name", ["features.json", "train_features.csv"])
def test_a_stage_refuses_what_is_half_there(
    make: Callable[..., TrainConfig], tmp_path: Path, name: str
) -> None:
    load(make())
    (tmp_path / "processed" / name).unlink()
    with pytest.raises(DataError, match="features are not built"):
        load(make("data.prepare=never"))


def test_two_processes_build_it_once(make: Callable[..., TrainConfig], root: Path, tmp_path: Path) -> None:
    config = make()
    program = (
        "import sys; from rakuten.cli import compose; from rakuten.data.features import load_features;"
        "from rich.console import Console;"
        "config = compose('train', sys.argv[1:]);"
        "features = load_features(config.data, config.model, Console());"
        "print(features.fingerprint, features.store.photos.present.sum())"
    )
    places = [
        f"data.{name}={getattr(config.data, name)}"
        for name in ("root", "interim_dir", "processed_dir", "prepare")
    ]
    arguments = ["data=rakuten", *SMALL, *places, "data.split.near_duplicate=1.0", "data.split.test=0.3"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0][-1] == outputs[1][-1] == f"{load(config).fingerprint} 40"
    assert sorted(len(lines) > 1 for lines in outputs) == [False, True], "one builds, the other reads"
