"""A trained bundle carries a canary set of held-out products, and answers it."""

import numpy as np

from rakuten.cli import compose
from rakuten.data.features import Features
from rakuten.experiment.canary import LIMIT_BYTES, NUM_PRODUCTS, canary_examples
from rakuten.experiment.sides import split_rows
from rakuten.model.bundle import Predictor
from rakuten.model.canary import check_canary, read_canary
from rakuten.model.runtime import TorchRuntime
from tests.experiment.conftest import DEMO, FUSION, Shop


def test_a_trained_bundle_answers_its_canary_set(shop: Shop) -> None:
    predictor = Predictor.load(shop.bundle)
    result = check_canary(predictor, TorchRuntime(predictor.classifier))
    assert result.state == "ok"
    assert result.num_products == NUM_PRODUCTS


def test_products_are_held_out_and_in_every_state(shop: Shop, features: Features) -> None:
    canary = read_canary(Predictor.load(shop.bundle))
    assert canary is not None
    states = [(each.tokens is not None, each.pixels is not None) for each in canary.examples]
    assert {*states} == {(True, True), (True, False), (False, True), (False, False)}
    assert states.count((True, True)) >= 10
    config = compose("train", [*DEMO, *FUSION, *shop.paths])
    rows = split_rows(features, config.data.split, config.seed)
    held_out, test = (
        {_print(features, row) for row in side.tolist()}
        for side in (np.concatenate([rows.calib, rows.val]), rows.test)
    )
    for example in canary.examples:
        if example.tokens is not None and example.pixels is not None:
            one = (example.tokens.ids.tobytes(), example.pixels.tobytes())
            assert one in held_out
            assert one not in test


def _print(features: Features, row: int) -> tuple[bytes, bytes]:
    example = features.store[row]
    return (
        b"" if example.tokens is None else example.tokens.ids.tobytes(),
        b"" if example.pixels is None else example.pixels.tobytes(),
    )


def test_large_photos_are_few(features: Features, monkeypatch) -> None:
    rows = np.arange(len(features.table))
    photo = 3 * 32 * 32
    monkeypatch.setattr("rakuten.experiment.canary.LIMIT_BYTES", 5 * photo)
    found = canary_examples(features, rows, 0)
    assert sum(each.pixels is not None for each in found) == 5
    assert len(found) == NUM_PRODUCTS
    assert all(each.tokens is not None for each in found[1:] if each.pixels is None)
    assert LIMIT_BYTES > 3 * 500 * 500
