"""One contract over every fusion with every kind of tower: the whole classifier, whatever a product has."""

from dataclasses import replace

import pytest
import torch

from rakuten.data.batching import Batch
from rakuten.data.preprocess import Preprocessor
from rakuten.model.classifier import ProductClassifier
from rakuten.model.fusion import build_fusion
from rakuten.model.losses import classification_loss
from tests.model.tiny import (
    FUSIONS,
    NUM_CLASSES,
    TEXT_KINDS,
    batch_of,
    classifier,
    mixed_products,
    model_config,
    preprocessor,
    product,
)

IMAGES = ("test_resnet", "test_vit")
KINDS = [(text, image, fusion) for text in TEXT_KINDS for image in IMAGES for fusion in FUSIONS]
SINGLE = [
    ("ngram", None, None),
    ("transformer", None, None),
    (None, "test_resnet", None),
    (None, "test_vit", None),
]


def name_of(kind: tuple[str | None, ...]) -> str:
    return "-".join(part for part in kind if part)


@pytest.fixture(params=[*KINDS, *SINGLE], ids=name_of)
def kind(request: pytest.FixtureRequest) -> tuple[str | None, str | None, str | None]:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def processor(kind: tuple[str | None, str | None, str | None]) -> Preprocessor:
    return preprocessor(model_config(*kind))


@pytest.fixture
def model(kind: tuple[str | None, str | None, str | None], processor: Preprocessor) -> ProductClassifier:
    model = classifier(model_config(*kind), processor)
    with torch.no_grad():  # away from timm's zero initialisation, where for one step no gradient passes
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def loss_of(model: ProductClassifier, batch: Batch, aux: float = 0.3) -> torch.Tensor:
    return classification_loss(
        model(batch),
        batch,
        kind="cross_entropy",
        class_weights=None,
        label_smoothing=0.1,
        aux_text=aux,
        aux_image=aux,
    )


def test_logits_of_every_product(model: ProductClassifier, processor: Preprocessor) -> None:
    logits = model.eval()(batch_of(processor, mixed_products()))
    assert logits.fused.shape == (5, NUM_CLASSES)
    assert logits.fused.dtype == torch.float32
    assert logits.fused.isfinite().all()
    assert (logits.text is None) == (model.text is None)
    assert (logits.image is None) == (model.image is None)


def test_gradients_reach_every_parameter(model: ProductClassifier, processor: Preprocessor) -> None:
    loss_of(model, batch_of(processor, mixed_products())).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


@pytest.mark.parametrize("fusion", FUSIONS)
def test_without_an_auxiliary_loss_only_the_heads_that_no_fusion_reads_are_left_out(fusion: str) -> None:
    config = model_config("ngram", "test_resnet", fusion)
    processor = preprocessor(config)
    model = classifier(config, processor)
    loss_of(model, batch_of(processor, mixed_products()), aux=0).backward()
    without = {key for key, p in model.named_parameters() if p.grad is None}
    heads = {f"{side}.head.{part}" for side in ("text", "image") for part in ("weight", "bias")}
    assert without == (set() if fusion == "late" else heads)


def test_batch_order_changes_nothing(model: ProductClassifier, processor: Preprocessor) -> None:
    products, order = mixed_products(), [3, 0, 4, 2, 1]
    model.eval()
    whole = model(batch_of(processor, products)).fused
    turned = model(batch_of(processor, [products[index] for index in order])).fused
    torch.testing.assert_close(turned, whole[order], atol=1e-5, rtol=1e-5)


def test_each_product_alone_is_as_in_company(model: ProductClassifier, processor: Preprocessor) -> None:
    model.eval()
    whole = model(batch_of(processor, mixed_products())).fused
    alone = [model(batch_of(processor, [each])).fused for each in mixed_products()]
    torch.testing.assert_close(torch.cat(alone), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("state", [(True, True), (True, False), (False, True), (False, False)])
def test_a_batch_of_one_trains_in_every_state(
    model: ProductClassifier, processor: Preprocessor, state: tuple[bool, bool]
) -> None:
    batch = batch_of(processor, [product(1, text=state[0], image=state[1])])
    loss = loss_of(model.train(), batch)
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("state", [(True, False), (False, True), (False, False)])
def test_whole_batches_without_a_modality_train(
    model: ProductClassifier, processor: Preprocessor, state: tuple[bool, bool]
) -> None:
    batch = batch_of(processor, [product(seed, text=state[0], image=state[1]) for seed in range(3)])
    loss_of(model.train(), batch).backward()
    for branch, present in ((model.text, state[0]), (model.image, state[1])):
        if branch is not None:
            assert (branch.missing.grad is not None and branch.missing.grad.abs().sum() > 0) != present


def test_hidden_is_the_same_as_absent(model: ProductClassifier, processor: Preprocessor) -> None:
    everyone = torch.ones(4, dtype=torch.bool)
    full = batch_of(processor, [product(seed) for seed in range(4)])
    model.eval()
    for hidden, absent in (
        (full.without(image=everyone), {"image": False}),
        (full.without(text=everyone), {"text": False}),
        (full.without(text=everyone, image=everyone), {"text": False, "image": False}),
    ):
        expected = batch_of(processor, [product(seed, **absent) for seed in range(4)])
        torch.testing.assert_close(model(hidden).fused, model(expected).fused, atol=1e-6, rtol=1e-6)


def test_what_is_absent_leaves_no_trace(model: ProductClassifier, processor: Preprocessor) -> None:
    """Two products that differ in nothing but what they lack answer alike, whatever stands beside them."""
    model.eval()
    nothing = product(0, text=False, image=False)
    first = model(batch_of(processor, [nothing, product(1)])).fused[0]
    second = model(batch_of(processor, [product(2), product(3, image=False), nothing])).fused[2]
    torch.testing.assert_close(first, second, atol=1e-6, rtol=1e-6)


def test_evaluation_is_deterministic(model: ProductClassifier, processor: Preprocessor) -> None:
    batch = batch_of(processor, mixed_products())
    model.eval()
    assert torch.equal(model(batch).fused, model(batch).fused)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_both_modalities_matter(fusion: str) -> None:
    config = model_config("ngram", "test_resnet", fusion)
    processor = preprocessor(config)
    model = classifier(config, processor).eval()
    full = batch_of(processor, [product(1)])
    everyone = torch.ones(1, dtype=torch.bool)
    shown = [full, full.without(text=everyone), full.without(image=everyone)]
    answers = [model(each).fused for each in shown]
    assert not torch.allclose(answers[0], answers[1], atol=1e-4)
    assert not torch.allclose(answers[0], answers[2], atol=1e-4)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_fusions_alone_take_the_contract(fusion: str) -> None:
    config = model_config(fusion=fusion).fusion
    assert config is not None
    module = build_fusion(config, 6, 10, NUM_CLASSES).eval()
    text, image = torch.randn(3, 6), torch.randn(3, 10)
    own = torch.randn(2, 3, NUM_CLASSES)
    has_text = torch.tensor([True, False, True])
    whole = module(text, image, own[0], own[1], has_text)
    assert whole.shape == (3, NUM_CLASSES)
    alone = module(text[1:2], image[1:2], own[0, 1:2], own[1, 1:2], has_text[1:2])
    torch.testing.assert_close(alone, whole[1:2])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_more_padding_changes_nothing(fusion: str) -> None:
    config = model_config("transformer", "test_vit", fusion)
    processor = preprocessor(config)
    model = classifier(config, processor).eval()
    batch = batch_of(processor, mixed_products())
    assert processor.text_encoder is not None
    tokens = torch.nn.functional.pad(batch.tokens, (0, 5), value=processor.text_encoder.pad_id)
    padded = replace(batch, tokens=tokens, token_weights=torch.nn.functional.pad(batch.token_weights, (0, 5)))
    torch.testing.assert_close(model(padded).fused, model(batch).fused, atol=1e-5, rtol=1e-5)
