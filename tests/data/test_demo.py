import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from pydantic import TypeAdapter

from rakuten.config import DataConfig
from rakuten.data import demo_catalogue, demo_words
from rakuten.data.clean import clean
from rakuten.data.demo import bayes_limits, bayes_predictions, ensure_demo
from rakuten.data.demo_world import NUM_SYMBOLS, build_world
from rakuten.errors import DataError

CONF = Path(__file__).parents[2] / "conf" / "data"
TOPICS = [text.split() for text in (*demo_words.TEXT_CLASSES.values(), *demo_words.SHARED_TOPICS)]
WORDS = [word for topic in TOPICS for word in topic]


def demo_config(root: Path, **demo: float) -> DataConfig:
    values = {}
    for name in ("base", "rakuten"):
        values |= yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    del values["defaults"]
    settings = yaml.safe_load((CONF / "demo.yaml").read_text(encoding="utf-8"))["demo"]
    values |= {
        "name": "demo",
        "root": root,
        "interim_dir": root / "interim",
        "processed_dir": root / "processed",
        "cache_dir": root / "cache",
        "prepare": "here",
    }
    small = {"num_products": 600, "num_unlabelled": 40, "image_px": 40}
    return TypeAdapter(DataConfig).validate_python(values | {"demo": settings | small | demo})


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    config = demo_config(tmp_path_factory.mktemp("shop") / "demo", num_products=3000)
    ensure_demo(config)
    return config


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cleaned(text: str) -> str:
    return clean(text, 20_000)


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def photo_path(config: DataConfig, row: dict[str, str]) -> Path:
    name = config.files.image_name.format(imageid=row["imageid"], productid=row["productid"])
    return config.root / config.files.images_train / name


def decodes(path: Path) -> bool:
    try:
        with Image.open(path) as photo:
            photo.load()
    except OSError:
        return False
    return True


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    first, again, other = (
        demo_config(tmp_path / name, num_products=120, seed=seed)
        for name, seed in (("a", 5), ("b", 5), ("c", 6))
    )
    for config in (first, again, other):
        ensure_demo(config)
    assert files_of(first.root) == files_of(again.root)
    ours, theirs = files_of(first.root), files_of(other.root)
    assert all(ours[name] != theirs[name] for name in ("X_train.csv", "Y_train.csv", "X_test.csv"))


def test_the_layout_is_the_raw_one(config: DataConfig) -> None:
    x_train, y_train, x_test = (
        read(config.root / f"{name}.csv") for name in ("X_train", "Y_train", "X_test")
    )
    assert list(x_train[0]) == ["", "designation", "description", "productid", "imageid"]
    assert list(y_train[0]) == ["", "prdtypecode"]
    assert [row[""] for row in x_train] == [row[""] for row in y_train] == [str(i) for i in range(3000)]
    assert [row[""] for row in x_test] == [str(i) for i in range(3000, 3040)]
    ids = [row["productid"] for row in (*x_train, *x_test)]
    assert len(set(ids)) == len(ids)
    assert sum(photo_path(config, row).is_file() for row in x_train) > 2970
    assert 0 < len(list((config.root / "images" / "image_test").iterdir())) <= 40


def test_the_habits_of_the_real_catalogue(config: DataConfig) -> None:
    rows = read(config.root / "X_train.csv")
    texts = [f"{row['designation']} {row['description']}".strip() for row in rows]
    assert np.mean([not row["description"] for row in rows]) == pytest.approx(0.35, abs=0.03)
    assert np.mean([cleaned(text) != text for text in texts]) == pytest.approx(0.46, abs=0.04)
    assert any("Ã" in text for text in texts)
    assert any("<" in text for text in texts)
    assert any("&eacute;" in text for text in texts)
    broken = [row for row in rows if not decodes(photo_path(config, row))]
    assert 0 < len(broken) < 40
    assert {photo_path(config, row).is_file() for row in broken} == {True, False}


def test_photos_have_a_white_frame(config: DataConfig) -> None:
    paths = [photo_path(config, row) for row in read(config.root / "X_train.csv")[:40]]
    photos = [np.asarray(Image.open(path)) for path in paths if decodes(path)]
    edges = [edge.mean() for photo in photos for edge in (photo[0], photo[-1], photo[:, 0], photo[:, -1])]
    assert all(photo.shape == (40, 40, 3) for photo in photos)
    assert np.mean(np.array(edges) > 250) > 0.6


def test_cleaning_leaves_the_very_words_that_were_drawn(config: DataConfig) -> None:
    """The posterior from the written text alone is the stored one: nothing is lost, nothing else says anything."""
    rows = read(config.root / "X_train.csv")
    position = {word: number for number, word in enumerate(WORDS)}
    tokens = [re.findall(r"\w+", cleaned(f"{r['designation']} {r['description']}").lower()) for r in rows]
    counts = np.zeros((len(rows), len(WORDS)), dtype=np.int64)
    for row, row_tokens in enumerate(tokens):
        for token in row_tokens:
            if token in position:
                counts[row, position[token]] += 1
    codes = config.labels.codes
    world = build_world(codes, demo_catalogue.class_counts(codes, 3000) / 3000, 0.04)
    posterior = world.posterior(counts, np.zeros((len(rows), NUM_SYMBOLS), dtype=np.int64))
    stored = bayes_predictions(config)
    np.testing.assert_allclose(posterior.max(axis=1), [stored[r[""]]["text"].limit for r in rows], atol=2e-6)


def test_hardly_any_word_decides_a_class_in_the_written_catalogue(config: DataConfig) -> None:
    labels = np.array([row["prdtypecode"] for row in read(config.root / "Y_train.csv")])
    texts = [
        cleaned(f"{r['designation']} {r['description']}").lower() for r in read(config.root / "X_train.csv")
    ]
    tokens = [set(re.findall(r"\w+", text)) for text in texts]
    for word in set().union(*tokens):
        having = labels[[word in row for row in tokens]]
        if len(having) >= 100:
            assert np.unique(having, return_counts=True)[1].max() / len(having) < 0.7, word


def test_a_broken_photo_leaves_what_the_text_says(config: DataConfig) -> None:
    answers = bayes_predictions(config)
    broken = [r[""] for r in read(config.root / "X_train.csv") if not decodes(photo_path(config, r))]
    assert all(answers[index]["both"] == answers[index]["text"] for index in broken)


def test_limits_of_any_rows_are_the_mean_of_theirs(config: DataConfig) -> None:
    answers = bayes_predictions(config)
    limits = bayes_limits(config, ["3", "1499"])
    assert limits == {
        m: pytest.approx((answers["3"][m].limit + answers["1499"][m].limit) / 2) for m in limits
    }
    assert set(limits) == {"both", "text", "image"}
    with pytest.raises(DataError, match="999999"):
        bayes_limits(config, ["3", "999999"])


def test_it_is_made_once_and_again_when_settings_change_or_files_are_gone(tmp_path: Path) -> None:
    config = demo_config(tmp_path / "demo", num_products=100)
    ensure_demo(config)
    before = (config.root / "X_train.csv").stat().st_mtime_ns
    ensure_demo(config)
    assert (config.root / "X_train.csv").stat().st_mtime_ns == before
    (config.root / "Y_train.csv").unlink()
    ensure_demo(config)
    assert len(read(config.root / "Y_train.csv")) == 100
    ensure_demo(demo_config(config.root, num_products=101))
    assert len(read(config.root / "Y_train.csv")) == 101
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["demo"]


def test_a_killed_generation_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = demo_config(tmp_path / "demo", num_products=100)

    def killed(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rakuten.data.demo_catalogue.render_photo", killed)
        with pytest.raises(KeyboardInterrupt):
            ensure_demo(config)
    assert not config.root.exists()
    ensure_demo(config)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["demo"]


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    config = demo_config(tmp_path / "mine", num_products=100)
    config.root.mkdir()
    (config.root / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        ensure_demo(config)
    (config.root / "thesis.txt").rename(tmp_path / "thesis.txt")
    ensure_demo(config)
    (tmp_path / "thesis.txt").rename(config.root / "thesis.txt")
    with pytest.raises(DataError, match=r"thesis\.txt"):
        ensure_demo(demo_config(config.root, num_products=101))
    assert (config.root / "thesis.txt").read_text() == "mine"
    with pytest.raises(DataError, match="data/raw"):
        ensure_demo(demo_config(tmp_path / "data" / "raw"))


def test_a_catalogue_with_other_codes_cannot_be_generated(tmp_path: Path) -> None:
    config = demo_config(tmp_path / "demo")
    with pytest.raises(DataError, match="codes"):
        ensure_demo(dataclasses.replace(config, codes={1: "One", 2: "Two"}))
    with pytest.raises(DataError, match="demo settings"):
        ensure_demo(dataclasses.replace(config, demo=None))
