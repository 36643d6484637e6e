"""The catalogue and the weights: what is said when something of them is missing or is not what it should be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rakuten.cli import compose
from rakuten.config import DataConfig
from rakuten.doctor import catalogue
from rakuten.doctor.catalogue import check_catalogue, check_sums, check_weights
from rakuten.doctor.check import Check, Finding, Severity, run_checks
from tests.doctor.conftest import assert_finding

OK, SKIPPED, WARNING, ERROR = Severity.OK, Severity.SKIPPED, Severity.WARNING, Severity.ERROR
HEADER = ",designation,description,productid,imageid\n"
ROWS = [f"{row},Robot {row},,{100 + row},{200 + row}\n" for row in range(8)]


@pytest.fixture
def data(make_data_config: Callable[..., DataConfig]) -> DataConfig:
    """A whole catalogue of eight products."""
    config = make_data_config()
    photos = config.root / "images/image_train"
    photos.mkdir(parents=True)
    for row in range(8):
        (photos / f"image_{200 + row}_product_{100 + row}.jpg").touch()
    (config.root / "X_train.csv").write_text(HEADER + "".join(ROWS))
    (config.root / "Y_train.csv").write_text(",prdtypecode\n" + "".join(f"{row},10\n" for row in range(8)))
    (config.root / "X_test.csv").write_text(HEADER + ROWS[0])
    return config


def told(data: DataConfig) -> Finding:
    """As the doctor tells it, errors included."""
    ((_, finding),) = run_checks([Check("catalogue", lambda: check_catalogue(data, needs_photos=True))])
    return finding


def test_all_is_there(data: DataConfig) -> None:
    assert_finding(told(data), OK, "X_train.csv", "Y_train.csv", "X_test.csv", "8 of the first 8 photos")


def test_the_demo_comes_by_itself(tmp_path: Path) -> None:
    config = compose("train", [f"data.root={tmp_path}/demo"])
    assert_finding(told(config.data), SKIPPED, "generated")


def test_no_folder(data: DataConfig) -> None:
    data.root.rename(data.root.with_name("elsewhere"))
    assert_finding(told(data), ERROR, "does not exist", cure="data.root=")


@pytest.mark.parametrize("name", ["X_train.csv", "Y_train.csv"])
def test_a_table_is_missing(data: DataConfig, name: str) -> None:
    (data.root / name).unlink()
    assert_finding(told(data), ERROR, f"{name.partition('.')[0].lower()} is missing", cure="put it there")


def test_nothing_to_predict(data: DataConfig) -> None:
    (data.root / "X_test.csv").unlink()
    assert_finding(told(data), WARNING, "x_test is missing", cure="input=FILE.csv")


def test_a_column_is_missing(data: DataConfig) -> None:
    (data.root / "X_train.csv").write_text((HEADER + ROWS[0]).replace("designation", "title"))
    assert_finding(told(data), ERROR, "has no column", "'designation'", cure="columns:")


def test_another_encoding(data: DataConfig) -> None:
    rows = "".join(row.replace("Robot", "Épée d'été") for row in ROWS)
    (data.root / "X_train.csv").write_bytes((HEADER + rows).encode("utf-16"))
    assert told(data).severity == ERROR


def test_photos_elsewhere(data: DataConfig) -> None:
    (data.root / "images").rename(data.root / "pictures")
    finding = told(data)
    assert_finding(finding, WARNING, "0 of the first 8 photos", "there is no", cure="data.files")
    assert_finding(check_catalogue(data, needs_photos=False), OK, "looks at no photos")


def test_photos_of_other_names(data: DataConfig) -> None:
    for path in (data.root / "images/image_train").iterdir():
        path.rename(path.with_suffix(".png"))
    assert_finding(told(data), WARNING, "0 of the first 8", "image_200_product_100.jpg", cure="data.files")


def test_half_of_the_photos_are_enough(data: DataConfig) -> None:
    for path in list((data.root / "images/image_train").iterdir())[:4]:
        path.unlink()
    assert_finding(told(data), OK, "4 of the first 8")


def test_sums_are_for_the_whole_catalogue(data: DataConfig, tmp_path: Path) -> None:
    assert_finding(check_sums(data), SKIPPED, "not the whole catalogue")
    assert_finding(check_sums(compose("train", []).data), SKIPPED, "challenge's catalogue alone")
    (data.root / "X_test.csv").unlink()
    assert_finding(check_sums(data), SKIPPED, "x_test is missing")


def test_the_right_size_and_other_bytes(data: DataConfig) -> None:
    with (data.root / "X_train.csv").open("wb") as file:
        file.truncate(catalogue.FULL_X_TRAIN_BYTES)
    finding = check_sums(data)
    assert_finding(finding, WARNING, "X_train.csv", "Y_train.csv", "md5 differs", cure="download it again")


def test_the_published_bytes(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published files are not here: these are, with the sums that `md5sum` gives them."""
    import subprocess

    names = {"x_train": "X_train.csv", "y_train": "Y_train.csv", "x_test": "X_test.csv"}
    done = subprocess.run(
        ["md5sum", *names.values()], cwd=data.root, capture_output=True, text=True, check=True
    )
    sums = dict(zip(names, (line.split()[0] for line in done.stdout.splitlines()), strict=True))
    monkeypatch.setattr(catalogue, "FULL_MD5", sums)
    monkeypatch.setattr(catalogue, "FULL_X_TRAIN_BYTES", (data.root / "X_train.csv").stat().st_size)
    assert_finding(check_sums(data), OK, "byte for byte")


def test_no_weights_are_needed() -> None:
    assert_finding(check_weights(compose("train", []).model), OK, "from scratch")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.text.name=nobody/no-such-model", "are not on disk and cannot be fetched"),
        ("model.text.name=./no-such-folder", "no text encoder at no-such-folder"),
    ],
)
def test_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch, override: str, said: str) -> None:
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    model = compose("train", ["model=fusion", override]).model
    ((_, finding),) = run_checks([Check("weights", lambda: check_weights(model))])
    assert_finding(finding, ERROR, said)


def test_weights_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").touch()
    model = compose("train", ["model=image", f"model.image.checkpoint={tmp_path}/w.safetensors"]).model
    assert_finding(check_weights(model), OK, "w.safetensors")
