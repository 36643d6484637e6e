"""Contributions are the Shapley values of two players: their axioms hold to the last digits."""

import numpy as np
import pytest

from rakuten.model.calibration import Calibration
from rakuten.model.explain import contributions
from rakuten.model.runtime import Embeddings, TorchRuntime, embed
from tests.model.tiny import (
    FUSIONS,
    batch_of,
    classifier,
    mixed_products,
    model_config,
    preprocessor,
    product,
)

CALIBRATION = Calibration(temperature=0.4, temperature_without_text=1.3)


def explained(*kind: str | None, num: int = 0):
    config = model_config(*kind)  # type: ignore[arg-type]
    processor = preprocessor(config)
    runtime = TorchRuntime(classifier(config, processor))
    batch = batch_of(processor, [product(seed) for seed in range(num)] if num else mixed_products())
    return runtime, embed(runtime, batch)


def value(runtime: TorchRuntime, embeddings: Embeddings, **without: bool) -> np.ndarray:
    part = embeddings.without(**without)
    logits = runtime.head(part.text, part.image, part.has_text, part.has_image)
    return CALIBRATION.probabilities(logits, part.has_text)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_efficiency(fusion: str) -> None:
    """What both contributed is the confidence less what is said of nothing."""
    runtime, embeddings = explained("ngram", "test_resnet", fusion)
    both, nothing = value(runtime, embeddings), value(runtime, embeddings, text=True, image=True)
    chosen = both.argmax(axis=1)
    found = contributions(runtime, CALIBRATION, embeddings)
    rows = np.arange(len(chosen))
    np.testing.assert_allclose(
        found.text + found.image, both[rows, chosen] - nothing[rows, chosen], rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(found.baseline, nothing[rows, chosen], atol=1e-7)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_value_is_the_mean_over_both_orders(fusion: str) -> None:
    runtime, embeddings = explained("transformer", "test_vit", fusion, num=6)
    answers = np.array([0, 1, 2, 3, 4, 0])
    found = contributions(runtime, CALIBRATION, embeddings, answers)
    rows = np.arange(len(answers))
    v = {
        (t, i): value(runtime, embeddings, text=not t, image=not i)[rows, answers]
        for t in (True, False)
        for i in (True, False)
    }
    text_first = v[True, False] - v[False, False]
    text_last = v[True, True] - v[False, True]
    np.testing.assert_allclose(found.text, (text_first + text_last) / 2, rtol=0, atol=1e-12)
    assert np.abs(found.text).max() > 1e-3
    assert np.abs(found.image).max() > 1e-3


def test_dummy_an_absent_modality_contributes_nothing() -> None:
    runtime, embeddings = explained("ngram", "test_resnet", "gated")
    found = contributions(runtime, CALIBRATION, embeddings)
    assert (found.text[~embeddings.has_text] == 0).all()
    assert (found.image[~embeddings.has_image] == 0).all()
    assert (found.text[embeddings.has_text] != 0).all()
    assert (found.image[embeddings.has_image] != 0).all()


@pytest.mark.parametrize("kind", [("ngram", None, None), (None, "test_resnet", None)])
def test_with_one_tower_it_has_it_all(kind: tuple[str | None, ...]) -> None:
    runtime, embeddings = explained(*kind)
    found = contributions(runtime, CALIBRATION, embeddings)
    only, other = (found.text, found.image) if kind[0] else (found.image, found.text)
    assert (other == 0).all()
    best = value(runtime, embeddings).max(axis=1)
    np.testing.assert_allclose(only, best - found.baseline, atol=1e-7)


class Symmetric:
    """Text and photo count alike; the head knows only how many there are and what they hold."""

    name, text_dim, image_dim, tolerance = "symmetric", 3, 3, 0.0

    def text(self, tokens, weights):
        raise AssertionError("explaining runs no tower")

    image = text

    def head(self, text, image, has_text, has_image):
        known = np.where(has_text[:, None], text, 0) + np.where(has_image[:, None], image, 0)
        return (known + 2 * known * (has_text & has_image)[:, None]).astype(np.float32)


def test_symmetry_swapped_roles_swap_the_values() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 4, 3)).astype(np.float32)
    present = np.ones(4, dtype=bool)
    calibration = Calibration(1.0, 1.0)  # one temperature, else text is not like a photo
    found = contributions(Symmetric(), calibration, Embeddings(one, other, present, present))
    swapped = contributions(Symmetric(), calibration, Embeddings(other, one, present, present))
    np.testing.assert_array_equal(found.text, swapped.image)
    np.testing.assert_array_equal(found.image, swapped.text)
    alike = contributions(Symmetric(), calibration, Embeddings(one, one, present, present))
    np.testing.assert_array_equal(alike.text, alike.image)
