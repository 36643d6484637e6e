"""A reference on disk, and windows made of the log's records."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rakuten.errors import BundleError
from rakuten.model.reference import REFERENCE, Observations, Reference
from rakuten.monitor.drift.window import window_of
from tests.monitor.drift_data import reference
from tests.monitor.records import DIM, NUM_CLASSES, record, statistics


def same(one: Observations, other: Observations) -> bool:
    columns = ("numbers", "flags", "categories", "embeddings")
    pairs = [(getattr(one, name), getattr(other, name)) for name in columns]
    return all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)
        for a, b in pairs
    ) and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("ids", "probs", "labels"))


def logged() -> Reference:
    """The reference of a model whose answers `record` makes up."""
    seen = Observations.of(
        ids=["1"],
        probs=np.full((1, NUM_CLASSES), 1 / NUM_CLASSES),
        statistics=[statistics()],
        embeddings={"text": np.zeros((1, DIM)), "image": np.zeros((1, DIM))},
    )
    return Reference(seen, tuple(range(NUM_CLASSES)), np.array([], dtype=np.uint32))


def test_a_reference_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made = replace(reference(n=60), codes=(10, "b2", 50, 60, 2583, 2705))
    made.save(tmp_path)
    back = Reference.load(tmp_path)
    assert same(back.seen, made.seen)
    assert back.codes == made.codes
    assert back.words() == {3, 5}


def test_hashes_above_two_billion_survive(tmp_path: Path) -> None:
    replace(reference(n=5), known_words=np.array([2**32 - 1], dtype=np.uint32)).save(tmp_path)
    assert Reference.load(tmp_path).words() == {2**32 - 1}


def test_no_reference_a_torn_one_and_one_of_tomorrow_say_so(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="has no drift reference") as caught:
        Reference.load(tmp_path)
    assert "train again" in str(caught.value)
    path = reference(n=30).save(tmp_path)
    tensors, whole = load_file(path), path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="is torn"):
        Reference.load(tmp_path)
    save_file(tensors, path, {"rakuten": json.dumps({"format": 2})})
    with pytest.raises(BundleError, match="another format"):
        Reference.load(tmp_path)
    save_file(tensors, path)
    with pytest.raises(BundleError, match="is torn"):
        Reference.load(tmp_path)
    assert path.name == REFERENCE


def test_rows_are_taken_by_number_and_by_mask() -> None:
    seen = reference(n=40).seen
    mask = np.arange(40) % 2 == 0
    assert same(seen.take(mask), seen.take(np.arange(0, 40, 2)))
    assert same(Observations.together([seen.take(np.arange(10)), seen.take(np.arange(10, 40))]), seen)


def test_what_is_absent_is_not_a_number() -> None:
    seen = Observations.of(
        ids=["a", "b"],
        probs=np.array([[0.9, 0.1], [0.2, 0.8]]),
        statistics=[
            statistics(
                has_text=False, title_chars=0, num_tokens=0, oov_share=None, language=None, sharpness=None
            ),
            statistics(oov_share=0.0),
        ],
        embeddings={"text": np.array([[np.nan, np.nan], [1e6, 2.0]])},
    )
    assert np.isnan(seen.numbers["title_chars"][0])
    assert np.isnan(seen.numbers["sharpness"][0])
    assert seen.numbers["oov_share"].tolist()[1] == 0  # a share of nothing is a share
    assert seen.categories["language"].tolist() == ["", "fr"]
    assert "image_width" not in seen.numbers
    assert np.isfinite(seen.embeddings["text"][1]).all()  # float16 ends at 65,504
    assert seen.predicted.tolist() == [0, 1]
    assert seen.confidence == pytest.approx([0.9, 0.8])


def test_a_window_of_the_log_has_its_columns() -> None:
    records = [record(1), record(2, text_embedding=None, statistics=statistics(has_text=False)), record(3)]
    window = window_of(records, logged(), {records[2].prediction_id: 5, "of another window": 7})
    assert window.ids.tolist() == [each.prediction_id for each in records]
    assert window.predicted.tolist() == [each.code for each in records]
    assert window.labels.tolist() == [-1, -1, 5]
    assert np.isnan(window.embeddings["text"][1]).all()
    assert window.embeddings["text"][0] == pytest.approx(records[0].text_embedding, abs=0.01)
    assert window.flags["has_text"].tolist() == [True, False, True]


def test_a_product_that_is_asked_for_again_counts_once() -> None:
    first = record(1)
    again = replace(record(1), probs=first.probs + np.float32(1e-6), cached=True)
    window = window_of([first, record(2), again, again], logged())
    assert sorted(window.ids.tolist()) != sorted({again.prediction_id})
    assert len(window) == 2
    assert first.prediction_id in window.ids.tolist()


def test_feedback_with_a_code_that_the_model_lacks_is_no_label() -> None:
    one = record(1)
    assert window_of([one], logged(), {one.prediction_id: 999}).labels.tolist() == [-1]


def test_no_records_are_an_empty_window() -> None:
    window = window_of([], logged())
    assert len(window) == 0
    assert window.probs.shape == (0, NUM_CLASSES)
    assert window.embeddings["text"].shape == (0, DIM)
