"""What a training records of its model for whoever watches it later."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rakuten.cli import compose
from rakuten.data.features import Features
from rakuten.data.preprocess import Product
from rakuten.data.raw import image_path
from rakuten.data.split import TEST
from rakuten.data.statistics import input_statistics
from rakuten.errors import BundleError
from rakuten.experiment import reference as recording
from rakuten.model.bundle import Predictor
from rakuten.model.bundle_files import check_bundle
from rakuten.model.observe import observe
from rakuten.model.reference import REFERENCE, Reference
from tests.experiment.conftest import DEMO, Shop


def raw_products(shop: Shop, ids: list[str]) -> list[Product]:
    """As a shop would send them: texts with their markup, photos as they lie on the disk."""
    data = compose("train", [*DEMO, *shop.paths]).data
    table = pd.read_csv(data.root / "X_train.csv", dtype=str, keep_default_na=False)
    rows = table.set_index(table.columns[0]).loc[ids]
    folder = data.root / data.files.images_train
    found = []
    for row in rows.itertuples():
        path = image_path(folder, data.files, row.imageid, row.productid)
        found.append(Product(row.designation, row.description, path if path.is_file() else None))
    return found


def test_the_reference_is_of_products_that_were_judged(shop: Shop, features: Features) -> None:
    reference = Reference.load(shop.bundle)
    held_out = features.rows(TEST)
    assert set(reference.seen.ids) == set(features.table["index"].iloc[held_out])
    assert reference.codes == Predictor.load(shop.bundle).labels.codes
    label_of = dict(zip(features.table["index"], features.labels.tolist(), strict=True))
    assert reference.seen.labels.tolist() == [label_of[each] for each in reference.seen.ids]


def test_like_is_held_against_like(shop: Shop) -> None:
    """The columns of the reference are those of the same products sent to the same bundle from outside."""
    reference, predictor = Reference.load(shop.bundle), Predictor.load(shop.bundle)
    ids = reference.seen.ids.tolist()
    products = raw_products(shop, ids)
    examples = predictor.preprocessor(products)
    statistics = [
        input_statistics(product, example, predictor.preprocessor, reference.words())
        for product, example in zip(products, examples, strict=True)
    ]
    served = observe(predictor, examples, statistics, ids)
    seen = reference.seen
    assert served.probs == pytest.approx(seen.probs, abs=1e-5)
    for name, values in seen.numbers.items():
        np.testing.assert_allclose(served.numbers[name], values, rtol=1e-5, err_msg=name)
    for name, values in (seen.flags | seen.categories).items():
        assert (served_of(served, name) == values).all(), name
    for name, values in seen.embeddings.items():
        np.testing.assert_allclose(served.embeddings[name], values, atol=2e-2, err_msg=name)
    assert not seen.flags["has_image"].all()  # broken photos are among them


def served_of(served: Any, name: str) -> Any:
    return served.flags[name] if name in served.flags else served.categories[name]


def test_the_reference_is_under_the_bundles_hashes(shop: Shop, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(shop.bundle, bundle)
    info = check_bundle(bundle)
    assert info["drift_reference"] == {"file": REFERENCE, "num_products": len(Reference.load(bundle).seen)}
    content = (bundle / REFERENCE).read_bytes()
    (bundle / REFERENCE).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=REFERENCE):
        check_bundle(bundle)


def test_of_many_products_the_same_few_are_taken(
    shop: Shop, features: Features, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "NUM_PRODUCTS", 20)
    taken = []
    for name, rows in (("a", features.rows(TEST)), ("b", features.rows(TEST)[::-1])):
        shutil.copytree(shop.bundle, tmp_path / name)
        recording.record_reference(tmp_path / name, features, rows, "cpu")
        check_bundle(tmp_path / name)
        taken.append(Reference.load(tmp_path / name).seen.ids.tolist())
    assert taken[0] == taken[1]
    assert len(taken[0]) == 20


def test_words_of_the_training_texts_are_known_and_others_are_not(shop: Shop) -> None:
    reference = Reference.load(shop.bundle)
    # The demo's vocabulary is closed: held-out products bring hardly a new word.
    assert np.nanmean(reference.seen.numbers["oov_share"]) < 0.1
    predictor = Predictor.load(shop.bundle)
    product = Product("xylographe quinquagénaire zébu")
    [example] = predictor.preprocessor([product])
    assert input_statistics(product, example, predictor.preprocessor, reference.words()).oov_share == 1
