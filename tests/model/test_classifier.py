"""The loss, class weights, and which parameters belong to whom."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from rakuten.model.classifier import Logits
from rakuten.model.losses import class_weights, classification_loss, squared_hinge
from tests.model.tiny import batch_of, classifier, mixed_products, model_config, preprocessor


@pytest.mark.parametrize(
    ("text", "image"), [("ngram", "test_resnet"), ("ngram", None), (None, "test_resnet")]
)
def test_parameters_belong_to_a_tower_or_to_the_head(text: str | None, image: str | None) -> None:
    model = classifier(model_config(text, image))
    assert set(model.towers) == {name for name, kind in (("text", text), ("image", image)) if kind}
    towers = [p for tower in model.towers.values() for p in tower.parameters()]
    everything = [id(p) for p in [*towers, *model.head_parameters()]]
    assert sorted(everything) == sorted(id(p) for p in model.parameters())


def test_a_tower_has_its_loss_where_its_modality_is_present() -> None:
    processor = preprocessor(model_config())
    batch = batch_of(processor, mixed_products(), labels=[0, 1, 2, 3, 4])
    torch.manual_seed(0)
    fused, text, image = torch.randn(3, 5, 5)
    loss = classification_loss(
        Logits(fused, text, image),
        batch,
        kind="cross_entropy",
        class_weights=None,
        label_smoothing=0,
        aux_text=0.5,
        aux_image=0.5,
    )
    expected = cross_entropy(fused, batch.labels)
    expected += 0.5 * cross_entropy(text[[0, 1, 4]], batch.labels[[0, 1, 4]])
    expected += 0.5 * cross_entropy(image[[0, 2, 4]], batch.labels[[0, 2, 4]])
    torch.testing.assert_close(loss, expected)


def test_the_loss_of_sure_and_right_answers_vanishes_and_of_equal_ones_is_log_c() -> None:
    batch = batch_of(preprocessor(model_config("ngram", None)), mixed_products(), labels=[0, 1, 2, 3, 4])
    sure, equal = 100 * torch.eye(5), torch.zeros(5, 5)
    rules = {
        "kind": "cross_entropy",
        "class_weights": None,
        "label_smoothing": 0.0,
        "aux_text": 0.0,
        "aux_image": 0.0,
    }
    assert classification_loss(Logits(sure, sure, None), batch, **rules).item() == pytest.approx(0, abs=1e-6)
    loss = classification_loss(Logits(equal, equal, None), batch, **rules)
    assert loss.item() == pytest.approx(math.log(5), abs=1e-6)


@pytest.mark.parametrize("kind", ["balanced", "sqrt"])
def test_class_weights_favor_rare_classes_and_have_mean_one_over_products(kind: str) -> None:
    counts = torch.tensor([100, 10, 1, 0])
    weights = class_weights(counts, kind)
    assert weights is not None
    assert weights.isfinite().all()
    assert weights[0] < weights[1] < weights[2]
    assert (weights * counts.clamp_min(1)).sum().item() == pytest.approx(112, rel=1e-5)
    ratio = (weights[1] / weights[0]).item()
    assert ratio == pytest.approx(10 if kind == "balanced" else 10**0.5, rel=1e-5)


def test_no_class_weights() -> None:
    assert class_weights(torch.tensor([3, 4]), "none") is None


def test_a_new_model_is_in_training_mode() -> None:
    model = classifier(model_config("transformer", "test_vit"))
    assert all(module.training for module in model.modules())


def test_squared_hinge_is_that_of_linear_svc() -> None:
    """sum over classes of max(0, 1 - y f)**2 with y = 1 for the product's class and -1 for the others."""
    logits = torch.tensor([[2.0, -2.0, 0.5], [0.0, 0.0, 0.0]])
    labels = torch.tensor([0, 1])
    assert squared_hinge(logits, labels).item() == pytest.approx((1.5**2 + 3) / 2)
    weighted = squared_hinge(logits, labels, torch.tensor([3.0, 1.0, 9.0]))
    assert weighted.item() == pytest.approx((3 * 1.5**2 + 3) / 4)


@pytest.mark.parametrize("kind", ["cross_entropy", "squared_hinge"])
def test_either_loss_learns(kind: str) -> None:
    config = model_config()
    processor = preprocessor(config)
    model = classifier(config, processor)
    batch = batch_of(processor, mixed_products())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(15):
        loss = classification_loss(
            model(batch), batch, kind=kind, class_weights=None, label_smoothing=0, aux_text=0.3, aux_image=0.3
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
