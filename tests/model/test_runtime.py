"""Whatever computes the three graphs answers as the model that was trained, and says so where it cannot."""

import logging
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from rakuten.data.batching import Batch
from rakuten.model.bundle import Predictor
from rakuten.model.calibration import Calibration
from rakuten.model.classifier import ProductClassifier
from rakuten.model.runtime import Embeddings, TorchRuntime, embed, logits_of
from tests.model.tiny import (
    FUSIONS,
    LABELS,
    TEXT_KINDS,
    batch_of,
    classifier,
    mixed_products,
    model_config,
    preprocessor,
    product,
)

MODELS = [(text, "test_resnet", fusion) for text in TEXT_KINDS for fusion in FUSIONS]
MODELS += [("ngram", None, None), ("transformer", None, None), (None, "test_vit", None)]  # type: ignore[list-item]


def name_of(kind: tuple[str | None, ...]) -> str:
    return "-".join(part for part in kind if part)


def built(kind: tuple[str | None, ...]) -> tuple[ProductClassifier, Batch]:
    config = model_config(*kind)  # type: ignore[arg-type]
    processor = preprocessor(config)
    return classifier(config, processor).eval(), batch_of(processor, mixed_products())


@pytest.mark.parametrize("kind", MODELS, ids=name_of)
def test_towers_and_head_are_the_model(kind: tuple[str | None, ...]) -> None:
    model, batch = built(kind)
    runtime = TorchRuntime(model)
    embeddings = embed(runtime, batch)
    with torch.inference_mode():
        np.testing.assert_allclose(logits_of(runtime, embeddings), model(batch).fused, atol=1e-6)
        hidden = batch.without(text=torch.ones(len(batch), dtype=torch.bool))
        np.testing.assert_allclose(
            logits_of(runtime, embeddings.without(text=True)), model(hidden).fused, atol=1e-6
        )


@pytest.mark.parametrize("kind", MODELS, ids=name_of)
def test_what_stands_in_absent_rows_does_not_matter(kind: tuple[str | None, ...]) -> None:
    model, batch = built(kind)
    runtime = TorchRuntime(model)
    clean = embed(runtime, batch)
    text, image = (None if x is None else x.copy() for x in (clean.text, clean.image))
    if text is not None:
        text[~clean.has_text] = np.nan
    if image is not None:
        image[~clean.has_image] = np.inf
    dirty = Embeddings(text, image, clean.has_text, clean.has_image)
    np.testing.assert_array_equal(logits_of(runtime, dirty), logits_of(runtime, clean))


def test_a_model_has_the_towers_that_it_has() -> None:
    assert TorchRuntime(built(("ngram", None, None))[0]).image_dim is None
    both = TorchRuntime(built(("ngram", "test_resnet", "late"))[0])
    assert both.text_dim == 12
    assert both.image_dim is not None


def test_no_products() -> None:
    config = model_config("ngram", "test_resnet", "gated")
    processor = preprocessor(config)
    runtime = TorchRuntime(classifier(config, processor))
    assert logits_of(runtime, embed(runtime, batch_of(processor, []))).shape == (0, 5)


def test_many_threads_get_the_answers_of_one() -> None:
    config = model_config("transformer", "test_resnet", "gated")
    processor = preprocessor(config)
    runtime = TorchRuntime(classifier(config, processor))
    batches = [batch_of(processor, [product(seed), product(seed + 50)]) for seed in range(12)]
    alone = [logits_of(runtime, embed(runtime, batch)) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: logits_of(runtime, embed(runtime, batch)), batches))
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_half_precision_is_near() -> None:
    model, batch = built(("transformer", "test_vit", "gated"))
    full, half = TorchRuntime(model), TorchRuntime(model, precision="bf16")
    assert half.name == "torch-bf16"
    expected = logits_of(full, embed(full, batch))
    found = logits_of(half, embed(half, batch))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert not np.array_equal(found, expected)


def test_a_compiler_that_fails_costs_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(graph: object, **_: object) -> object:
        def fail(*_: object) -> None:
            raise RuntimeError("no C++ compiler\nat all")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    model, batch = built(("ngram", "test_resnet", "concat"))
    runtime, eager = TorchRuntime(model, compile=True), TorchRuntime(model)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = logits_of(runtime, embed(runtime, batch))
    np.testing.assert_array_equal(found, logits_of(eager, embed(eager, batch)))
    assert [record.getMessage() for record in caplog.records] == [
        "torch.compile failed, going on without: no C++ compiler"
    ] * 3  # one a graph, and only the first time


@pytest.mark.acceptance  # a process that compiles looks at it every time
def test_compiled_answers_as_not_compiled() -> None:
    model, batch = built(("transformer", "test_resnet", "gated"))
    compiled, eager = TorchRuntime(model, compile=True), TorchRuntime(model)
    for part in (batch, batch.without(text=torch.tensor([True, False, False, False, False]))):
        found = logits_of(compiled, embed(compiled, part))
        np.testing.assert_allclose(found, logits_of(eager, embed(eager, part)), atol=1e-4)


def test_calibration_is_the_softmax_over_the_temperature_of_what_there_is() -> None:
    logits, has_text = np.array([[1.0, 3.0, -2.0], [900.0, 0.0, -900.0]]), np.array([True, False])
    found = Calibration(2.0, 5.0).probabilities(logits, has_text)
    temperature = torch.tensor([[2.0], [5.0]])
    expected = torch.softmax(torch.from_numpy(logits) / temperature, dim=1)
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_a_predictor_answers_from_embeddings() -> None:
    config = model_config("ngram", "test_resnet", "late")
    processor = preprocessor(config)
    info = {"calibration": {"temperature": 1.5, "temperature_without_text": 0.5}}
    predictor = Predictor(classifier(config, processor), processor, LABELS, info)
    runtime = TorchRuntime(predictor.classifier)
    products = mixed_products()
    batch = predictor.batch(processor(products))
    probs = predictor.probabilities_of(runtime, embed(runtime, batch))
    np.testing.assert_allclose(probs, predictor.probabilities(batch), atol=1e-6)
    assert [a.code for a in predictor.answers_of(probs, [None] * len(products))] == [
        a.code for a in predictor.predict(products)
    ]
