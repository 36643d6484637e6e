"""One answer per row, the same that training evaluated, whatever the rows are like."""

import csv
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rakuten.config import PredictConfig, TrainConfig
from rakuten.data.features import Features, load_features
from rakuten.data.preprocess import Product
from rakuten.data.raw import image_path
from rakuten.data.split import TEST
from rakuten.errors import BundleError, DataError
from rakuten.experiment.evaluate import predict_rows
from rakuten.experiment.predict import predict
from rakuten.experiment.train import train
from rakuten.model.bundle import Predictor
from tests.experiment.conftest import DEMO, IMAGE, MakeTrain, Shop, Told, run_script, start_script

MakePredict = Callable[..., PredictConfig]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def raw_rows(shop: Shop) -> dict[str, dict[str, str]]:
    """index -> the row of X_train.csv as the shop wrote it."""
    return {row[""]: row for row in read(shop.folder / "data/demo/X_train.csv")}


# --- train = evaluate = Predictor = script ------------------------------------------------------------------


def photo_of(config: TrainConfig, row: dict[str, str]) -> bytes | None:
    if not row["imageid"]:
        return None
    folder = config.data.root / config.data.files.images_train
    path = image_path(folder, config.data.files, row["imageid"], row["productid"])
    return path.read_bytes() if path.is_file() else None


def assert_same_answers(shop: Shop, bundle: Path, features: Features, config: TrainConfig) -> None:
    """Every product of the catalogue, from the store and from the raw row and the photo's bytes."""
    predictor = Predictor.load(bundle)
    rows = np.arange(len(features.table))
    stored = predict_rows(predictor, features, rows)
    raw = raw_rows(shop)
    products = [
        Product(row["designation"], row["description"], photo_of(config, row))
        for row in (raw[index] for index in features.table["index"])
    ]
    served = predictor.predict(products)
    alone = [predictor.predict([product])[0] for product in products[:20]]
    best = stored.probs.argmax(axis=1)
    assert [answer.code for answer in served] == [predictor.labels.codes[i] for i in best]
    np.testing.assert_allclose([a.confidence for a in served], stored.probs.max(axis=1), atol=1e-5)
    np.testing.assert_allclose([a.confidence for a in alone], [a.confidence for a in served[:20]], atol=1e-5)


def test_every_product_gets_its_evaluated_answer(
    shop: Shop, features: Features, train_config: MakeTrain
) -> None:
    assert len(set(features.table["image_state"])) >= 4, "present, missing and broken photos"
    assert (features.table["description"] == "").any()
    assert_same_answers(shop, shop.bundle, features, train_config())


def test_the_report_holds_the_same_answers(shop: Shop, features: Features) -> None:
    predictor = Predictor.load(shop.bundle)
    rows = features.rows(TEST)
    stored = predict_rows(predictor, features, rows)
    reported = read(shop.run / "evaluation/test/predictions.csv")
    assert len(reported) == len(rows)
    by_index = {str(i): p for i, p in zip(stored.rows, stored.probs, strict=True)}
    key = next(name for name in reported[0] if name in ("row", "index", "rows"))
    assert {row[key] for row in reported} == set(by_index)


CAMEMBERT = ["model/text=camembert_tiny", "model.text.vocab_size=300", "model.text.hidden_size=32"]


@pytest.mark.parametrize("model", ["text_small", "image_small", "camembert_tiny"])
def test_so_it_does_with_other_towers(shop: Shop, train_config: MakeTrain, model: str) -> None:
    if model == "camembert_tiny":
        config = train_config(*CAMEMBERT, "model/fusion=late", "trainer.max_epochs=1", tiny=IMAGE)
    else:
        config = train_config("trainer.max_epochs=1", model=model)
    bundle = train(config, Told())
    assert_same_answers(shop, bundle, load_features(config.data, config.model), config)


def test_the_script_writes_the_same_answers(shop: Shop, features: Features, tmp_path: Path) -> None:
    source = shop.folder / "data/demo/X_train.csv"
    images = shop.folder / "data/demo/images/image_train"
    output = tmp_path / "a folder/that is/missing/out.csv"
    result = run_script(
        "predict",
        [
            *DEMO, f"input={source}", f"images={images}", f"output={output}",
            f"bundle={shop.bundle}", "batch_size=50",
        ],
        shop.folder,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{output}\n"
    answers = read(output)
    raw = read(source)
    assert [row["index"] for row in answers] == [row[""] for row in raw]
    assert [row["productid"] for row in answers] == [row["productid"] for row in raw]
    predictor = Predictor.load(shop.bundle)
    stored = predict_rows(predictor, features, np.arange(len(features.table)))
    expected = {
        str(index): (str(predictor.labels.codes[probs.argmax()]), probs.max())
        for index, probs in zip(stored.rows, stored.probs, strict=True)
    }
    known = [row for row in answers if row["index"] in expected]
    assert len(known) == len(expected)
    assert [row["predicted_prdtypecode"] for row in known] == [expected[row["index"]][0] for row in known]
    np.testing.assert_allclose(
        [float(row["confidence"]) for row in known],
        [expected[row["index"]][1] for row in known],
        atol=1e-5,
    )
    assert (
        sum(bool(row["problem"]) for row in answers) >= 3
    )  # the broken photos; one that is gone is no fault


# --- any CSV in ---------------------------------------------------------------------------------------------


def test_the_catalogues_own_x_test_by_default(shop: Shop, predict_config: MakePredict) -> None:
    done = predict(predict_config(), Told())
    rows = read(shop.folder / "data/demo/X_test.csv")
    answers = read(done.output)
    assert done.num_rows == len(answers) == len(rows)
    assert [row["index"] for row in answers] == [row[""] for row in rows]
    assert list(answers[0]) == [
        "index", "productid", "predicted_prdtypecode", "confidence",
        "code_2", "confidence_2", "code_3", "confidence_3", "problem",
    ]  # fmt: skip
    for row in answers:
        confidences = [float(row[name]) for name in ("confidence", "confidence_2", "confidence_3")]
        assert confidences == sorted(confidences, reverse=True)


def test_every_row_has_its_answer_also_those_that_cannot_be_read(
    predict_config: MakePredict, tmp_path: Path
) -> None:
    source = write(
        tmp_path / "in.csv",
        b",designation,description,productid,imageid\n"
        b"7,lampe,,1,1\n"
        b"3,too,few\n"
        b'5,"an open quote,,2,2\n'
        b"x,\xff\xfe not text,,3,3\n"
        b"4,lampe,,4,../../etc/passwd\n"
        b"7,the same index again,,5,5\n"
        b"9,,,6,6\n" + "11,café,,7,7\n12,thé,,8,8\n".encode(),
    )
    done = predict(predict_config(f"input={source}"), Told())
    answers = read(done.output)
    assert [row["index"] for row in answers] == ["7", "3", "5", "x", "4", "7", "9", "11", "12"]
    with_problem = [row["index"] for row in answers if row["problem"]]
    assert with_problem == ["3", "5", "x", "4", "9"]
    assert all(row["predicted_prdtypecode"] and float(row["confidence"]) > 0 for row in answers)
    assert sum(done.problems.values()) == 5


def test_only_an_index_and_a_title(predict_config: MakePredict, tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ",designation\n1,lampe de bureau\n2,\n")
    answers = read(predict(predict_config(f"input={source}"), Told()).output)
    assert [row["productid"] for row in answers] == ["", ""]
    assert answers[0]["problem"] == ""
    assert "neither text nor a readable photo" in answers[1]["problem"]


def test_photos_count_and_a_broken_one_is_named(
    shop: Shop, predict_config: MakePredict, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    some = next((shop.folder / "data/demo/images/image_train").glob("*.jpg")).read_bytes()
    write(photos / "image_1_product_1.jpg", some)
    write(photos / "image_2_product_2.jpg", b"not a photo")
    source = write(
        tmp_path / "in.csv",
        ",designation,description,productid,imageid\n1,lampe,,1,1\n2,lampe,,2,2\n3,lampe,,3,3\n",
    )
    answers = read(predict(predict_config(f"input={source}", f"images={photos}"), Told()).output)
    assert answers[0]["confidence"] != answers[2]["confidence"]
    assert answers[1]["confidence"] == answers[2]["confidence"]
    assert [bool(row["problem"]) for row in answers] == [False, True, False]


def test_the_challenges_form(predict_config: MakePredict, shop: Shop) -> None:
    answers = read(predict(predict_config("submission=true"), Told()).output)
    assert list(answers[0]) == ["", "prdtypecode"]
    assert len(answers) == len(read(shop.folder / "data/demo/X_test.csv"))


def test_more_alternatives_than_classes(predict_config: MakePredict) -> None:
    answers = read(predict(predict_config("top_k=30"), Told()).output)
    assert len(answers[0]) == 3 + 2 * 30
    assert answers[0]["code_27"] != ""
    assert answers[0]["code_28"] == ""
    total = float(answers[0]["confidence"]) + sum(float(answers[0][f"confidence_{k}"]) for k in range(2, 28))
    assert total == pytest.approx(1, abs=1e-4)


def test_photos_that_are_not_there(predict_config: MakePredict, tmp_path: Path, shop: Shop) -> None:
    """A folder that was asked for must be; the catalogue's own may be missing, and that is said."""
    with pytest.raises(DataError, match="is not a folder"):
        predict(predict_config(f"images={tmp_path / 'nowhere'}"), Told())
    told = Told()
    source = shop.folder / "data/demo/X_test.csv"
    done = predict(predict_config(f"input={source}", f"data.root={tmp_path}"), told)
    assert "from text alone" in told.text
    assert done.num_rows == 60


def test_an_input_that_is_none(predict_config: MakePredict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        predict(predict_config(f"input={tmp_path / 'nowhere.csv'}"), Told())
    with pytest.raises(DataError, match="is empty"):
        predict(predict_config(f"input={write(tmp_path / 'empty.csv', '')}"), Told())
    with pytest.raises(DataError, match="no rows"):
        predict(predict_config(f"input={write(tmp_path / 'header.csv', ',designation')}"), Told())
    other = write(tmp_path / "other.csv", "id,title\n1,x\n")
    with pytest.raises(DataError, match="'designation'"):
        predict(predict_config(f"input={other}"), Told())
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(DataError, match="is not a file"):
            predict(predict_config(f"input={tmp_path / name}"), Told())
    assert not (tmp_path / "out.csv").exists()


def test_an_output_that_cannot_be(predict_config: MakePredict, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        predict(predict_config(f"output={tmp_path}"), Told())
    write(tmp_path / "file", "")
    with pytest.raises(DataError, match="cannot be written"):
        predict(predict_config(f"output={tmp_path / 'file/out.csv'}"), Told())


def test_no_bundle(predict_config: MakePredict, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle at"):
        predict(predict_config(f"bundle={tmp_path}"), Told())


# --- long inputs --------------------------------------------------------------------------------------------


def long_input(path: Path, num_rows: int) -> Path:
    text = "lampe de bureau articulée en métal, livrée sans ampoule " * 8
    with path.open("w", encoding="utf-8") as file:
        file.write(",designation\n")
        file.writelines(f"{row},{text}{row}\n" for row in range(num_rows))
    return path


@pytest.mark.slow
def test_memory_does_not_grow_with_rows(predict_config: MakePredict, tmp_path: Path) -> None:
    """Peaks only grow: were anything kept of a row, the longer file would raise it by its 9 MB of text and more."""

    def peak_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    predict(predict_config(f"input={long_input(tmp_path / 'short.csv', 2_000)}"), Told())
    before = peak_mb()
    predict(predict_config(f"input={long_input(tmp_path / 'long.csv', 20_000)}"), Told())
    assert peak_mb() - before < 5


@pytest.mark.slow
def test_killed_half_way_leaves_no_output(shop: Shop, tmp_path: Path) -> None:
    source, output = long_input(tmp_path / "in.csv", 200_000), tmp_path / "out/answers.csv"
    arguments = [*DEMO, f"input={source}", f"output={output}", f"bundle={shop.bundle}"]
    process: subprocess.Popen[Any] = start_script("predict", arguments, shop.folder)
    while not (output.parent.is_dir() and any(p.stat().st_size for p in output.parent.iterdir())):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not output.exists()
