"""Which parameter learns how fast."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from rakuten.cli import compose
from rakuten.config import ModelConfig, OptimConfig, TrainConfig
from rakuten.data.batching import collate
from rakuten.data.features import Features
from rakuten.experiment.optim import build_optimizer, build_scheduler, freeze
from rakuten.model.bundle import build_classifier
from rakuten.model.classifier import ProductClassifier
from tests.experiment.conftest import DEMO, FUSION, Shop

TRANSFORMER = [
    "model/text=camembert_tiny",
    "model.text.vocab_size=200",
    "model.text.hidden_size=16",
    "model.text.num_layers=2",
    "model.image.image_px=32",
    "model.fusion.hidden_dim=16",
]


def build(features: Features, config: TrainConfig) -> ProductClassifier:
    torch.manual_seed(0)
    return build_classifier(config.model, 27, features.preprocessor)


@pytest.fixture(params=[FUSION, TRANSFORMER], ids=["ngram", "transformer"])
def config(request: pytest.FixtureRequest, shop: Shop) -> TrainConfig:
    decay = ["model.text.layer_decay=0.5", "model.image.layer_decay=0.5", "model.text.lr=3e-3"]
    return compose("train", [*DEMO, *request.param, *shop.paths, *decay])


def optimizer_of(classifier: ProductClassifier, config: TrainConfig) -> torch.optim.Optimizer:
    freeze(classifier, config.model)
    return build_optimizer(classifier, config.model, config.optim, fused=False)


def rates(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> set[float]:
    wanted = {id(parameter) for parameter in parameters}
    return {g["lr"] for g in optimizer.param_groups if wanted & {id(p) for p in g["params"]}}


def test_every_parameter_is_in_exactly_one_group(features: Features, config: TrainConfig) -> None:
    classifier = build(features, config)
    optimizer = optimizer_of(classifier, config)
    counts = Counter(id(p) for group in optimizer.param_groups for p in group["params"])
    assert counts == Counter({id(p): 1 for p in classifier.parameters()})


def test_vectors_take_no_weight_decay_and_all_else_does(features: Features, config: TrainConfig) -> None:
    optimizer = optimizer_of(build(features, config), config)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["weight_decay"] > 0) == (parameter.ndim > 1)


def test_rates_halve_from_the_head_down(features: Features, config: TrainConfig) -> None:
    classifier = build(features, config)
    optimizer = optimizer_of(classifier, config)
    assert rates(optimizer, classifier.head_parameters()) == {config.optim.lr}
    for name, tower in classifier.towers.items():
        top = getattr(config.model, name).lr
        for depth, layer in enumerate(reversed(tower.layer_groups())):
            assert list(rates(optimizer, layer)) == pytest.approx([top * 0.5**depth])


def test_frozen_groups_do_not_move_and_all_others_do(features: Features, config: TrainConfig) -> None:
    model = frozen_model(config.model)
    config = replace(config, model=model)
    classifier = build(features, config)
    frozen = {id(p) for tower in classifier.towers.values() for p in tower.layer_groups()[0]}
    before = {name: parameter.clone() for name, parameter in classifier.named_parameters()}
    optimizer = optimizer_of(classifier, config)
    assert not frozen & {id(p) for group in optimizer.param_groups for p in group["params"]}
    examples = [features.store[row] for row in range(24)]
    batch = collate(examples, pad_id=0, image_px=32, labels=features.labels[:24].tolist())
    if config.model.text is not None and config.model.text.kind == "transformer":
        batch = replace(batch, tokens=batch.tokens % 200)
    place = torch.arange(24)
    batch = batch.without(text=place < 4, image=place >= 20)  # so that what stands in for them learns too
    for _ in range(3):  # the first step moves nothing behind a residual branch that starts at zero
        logits = classifier(batch)
        sum(part.square().sum() for part in (logits.fused, logits.text, logits.image)).backward()
        optimizer.step()
    moved = {name for name, p in classifier.named_parameters() if not torch.equal(p, before[name])}
    still = {name for name, p in classifier.named_parameters() if id(p) in frozen}
    assert still
    assert not moved & still
    without_gradient = {name for name, p in classifier.named_parameters() if p.grad is None}
    assert moved == set(before) - still - without_gradient


def frozen_model(model: ModelConfig) -> ModelConfig:
    assert model.text is not None
    assert model.image is not None
    return replace(model, text=replace(model.text, freeze=1), image=replace(model.image, freeze=1))


def test_warm_up_then_cosine_to_zero() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build_scheduler(optimizer, num_steps=100, warmup=0.1)
    seen = []
    for _ in range(120):
        seen.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    assert seen[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert seen[10] == pytest.approx(1.0)
    assert seen[55] == pytest.approx(0.5, abs=0.01)
    assert seen[10:100] == sorted(seen[10:100], reverse=True)
    assert max(seen[100:]) < 1e-9


def test_the_optimizers_settings_arrive(features: Features, config: TrainConfig) -> None:
    optim: OptimConfig = config.optim
    optimizer = optimizer_of(build(features, config), config)
    assert all(group["betas"] == tuple(optim.betas) for group in optimizer.param_groups)
