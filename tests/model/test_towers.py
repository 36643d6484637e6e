"""One contract over every tower."""

import pytest
import torch
from torch import Tensor

from rakuten.config import TransformerConfig
from rakuten.errors import ConfigError
from rakuten.experiment.optim import build_optimizer, freeze
from rakuten.model.image import build_image_tower
from rakuten.model.text import NgramTower, build_text_tower
from rakuten.model.tower import Tower, check_layer_groups
from tests.model.tiny import (
    TEXT_KINDS,
    TIMM_NAMES,
    classifier,
    image_config,
    model_config,
    optim_config,
    text_config,
)

PAD_ID = 1
TOWERS = [*TEXT_KINDS, "transformer-cls", *TIMM_NAMES]


def build(name: str) -> Tower:
    torch.manual_seed(0)
    if name in TIMM_NAMES:
        return build_image_tower(image_config(name, image_px=64))
    kind, _, pooling = name.partition("-")
    config = text_config(kind, pooling=pooling) if pooling else text_config(kind)
    vocab_size = config.vocab_size if isinstance(config, TransformerConfig) else 0
    return build_text_tower(config, vocab_size, PAD_ID if kind == "transformer" else 0)


def inputs(name: str, num: int = 4, seed: int = 0) -> tuple[Tensor, ...]:
    """Four photos, or four texts of 9, 7, 5 and 3 tokens."""
    generator = torch.Generator().manual_seed(seed)
    if name in TIMM_NAMES:
        return (torch.randint(0, 256, (num, 3, 64, 64), generator=generator, dtype=torch.uint8),)
    mask = torch.arange(9) < torch.tensor([9, 7, 5, 3])[:num, None]
    tokens = torch.randint(5, 100, (num, 9), generator=generator)
    return torch.where(mask, tokens, PAD_ID if name.startswith("transformer") else 0), mask.float()


@pytest.fixture(params=TOWERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_shapes_are_as_declared(name: str) -> None:
    output = build(name)(*inputs(name))
    tower = build(name)
    assert output.pooled.shape == (4, tower.out_dim)
    assert output.sequence.shape == (4, output.mask.shape[1], tower.sequence_dim)
    assert output.mask.dtype == torch.bool
    assert output.mask.any(dim=1).all()
    assert output.pooled.isfinite().all()


def test_layer_groups_name_each_parameter_once_from_input_to_output(name: str) -> None:
    tower = build(name)
    groups = tower.layer_groups()
    check_layer_groups(tower, groups)
    assert len(groups) >= 2
    assert all(groups)
    names = {id(parameter): key for key, parameter in tower.named_parameters()}
    first = {names[id(parameter)] for parameter in groups[0]}
    assert any(
        part in key for key in first for part in ("embed", "stem", "conv1", "cls_token", "pos_embed")
    ), first


def test_layer_groups_follow_the_forward_pass(name: str) -> None:
    """The modules of group k run before those of group k + 1, as hooks see them."""
    tower = build(name)
    order: dict[int, int] = {}
    for module in tower.modules():
        for parameter in module.parameters(recurse=False):

            def ran(_module: object, _inputs: object, key: int = id(parameter)) -> None:
                order.setdefault(key, len(order))

            module.register_forward_pre_hook(ran)
    tower(*inputs(name))
    starts = [
        min(seen)
        for group in tower.layer_groups()
        if (seen := [order[id(p)] for p in group if id(p) in order])
    ]
    assert starts == sorted(starts)


def test_gradients_reach_every_parameter(name: str) -> None:
    tower = build(name)
    with torch.no_grad():  # timm starts residual branches at zero, where for one step no gradient passes
        for parameter in tower.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pooled = tower(*inputs(name)).pooled
    (pooled * torch.randn_like(pooled)).sum().backward()
    without = [key for key, p in tower.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_batch_order_changes_nothing(name: str) -> None:
    tower = build(name).eval()
    order = torch.tensor([2, 0, 3, 1])
    whole = inputs(name)
    torch.testing.assert_close(
        tower(*(each[order] for each in whole)).pooled, tower(*whole).pooled[order], atol=1e-5, rtol=1e-5
    )


def test_one_alone_is_as_in_company(name: str) -> None:
    tower = build(name).eval()
    whole = inputs(name)
    torch.testing.assert_close(
        tower(*(each[:1] for each in whole)).pooled, tower(*whole).pooled[:1], atol=1e-5, rtol=1e-5
    )


def test_batch_of_one_trains(name: str) -> None:
    tower = build(name).train()
    output = tower(*inputs(name, num=1))
    output.pooled.square().sum().backward()
    assert output.pooled.shape == (1, tower.out_dim)
    assert output.sequence.shape[0] == output.mask.shape[0] == 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tower.parameters())


def test_evaluation_is_deterministic(name: str) -> None:
    tower = build(name).eval()
    assert torch.equal(tower(*inputs(name)).pooled, tower(*inputs(name)).pooled)


@pytest.mark.parametrize("name", ["ngram", "transformer", "transformer-cls"])
def test_padding_changes_nothing(name: str) -> None:
    tower = build(name).eval()
    tokens, weights = inputs(name)
    longer = torch.nn.functional.pad(tokens, (0, 8), value=PAD_ID if name != "ngram" else 0)
    padded = tower(longer, torch.nn.functional.pad(weights, (0, 8)))
    torch.testing.assert_close(padded.pooled, tower(tokens, weights).pooled, atol=1e-5, rtol=1e-5)


def test_subwords_count_alike_whatever_they_weigh() -> None:
    tower = build("transformer").eval()
    tokens, weights = inputs("transformer")
    torch.testing.assert_close(tower(tokens, 3 * weights).pooled, tower(tokens, weights).pooled)


def test_n_grams_count_by_their_weight() -> None:
    tower = build("ngram").eval()
    tokens, weights = inputs("ngram")
    heavy = weights.clone()
    heavy[:, 0] = 5
    assert not torch.allclose(tower(tokens, heavy).pooled, tower(tokens, weights).pooled, atol=1e-3)
    # Of norm one: how long a text is tells nothing.
    torch.testing.assert_close(tower(tokens, 3 * weights).pooled, tower(tokens, weights).pooled)


def test_rare_n_grams_weigh_more() -> None:
    tower = NgramTower(text_config("ngram", init_std=1.0, norm=False))  # type: ignore[arg-type]
    frequency = torch.full((300,), 10.0)
    frequency[7] = 1_000
    tower.fit_idf(frequency, 1_000)
    tokens, weights = torch.tensor([[7, 8]]), torch.ones(1, 2)
    common, rare = tower.embedding.weight[7], tower.embedding.weight[8]
    pooled = tower(tokens, weights).pooled[0]
    ratio = (torch.log(torch.tensor(1_001 / 11)) + 1).item()
    torch.testing.assert_close(pooled, (common + ratio * rare) / (1 + ratio**2) ** 0.5)


@pytest.mark.parametrize("name", TEXT_KINDS)
def test_text_decides_what_a_text_tower_says(name: str) -> None:
    tower = build(name).eval()
    assert not torch.allclose(tower(*inputs(name)).pooled, tower(*inputs(name, seed=1)).pooled, atol=1e-3)


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_uint8_and_float_pixels_are_the_same_photo(name: str) -> None:
    tower = build(name).eval()
    (pixels,) = inputs(name)
    assert torch.equal(tower(pixels).pooled, tower(pixels.float()).pooled)


@pytest.mark.parametrize("px", [48, 96])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "vit_tiny_patch16_224"])
def test_image_towers_take_the_configured_size(name: str, px: int) -> None:
    tower = build_image_tower(image_config(name, image_px=px))
    assert tower(torch.zeros(2, 3, px, px, dtype=torch.uint8)).pooled.shape == (2, tower.out_dim)


def test_unknown_timm_name_names_near_ones() -> None:
    with pytest.raises(ConfigError, match="resnet18"):
        build_image_tower(image_config("resnet_18"))


@pytest.mark.parametrize("num", [0, 1, 3])
def test_freeze_stops_the_first_groups_alone(num: int) -> None:
    text = text_config("transformer", freeze=num, layer_decay=0.5, lr=0.1)
    config = model_config(text=text)
    model = classifier(config)
    freeze(model, config)
    groups = model.towers["text"].layer_groups()
    assert [all(p.requires_grad for p in group) for group in groups] == [
        position >= num for position in range(len(groups))
    ]
    assert not any(p.requires_grad for group in groups[:num] for p in group)


def test_learning_rates_decay_towards_the_input() -> None:
    config = model_config(text=text_config("transformer", layer_decay=0.5, lr=0.1))
    model = classifier(config)
    optimizer = build_optimizer(model, config, optim_config(lr=0.7), fused=False)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    groups = model.towers["text"].layer_groups()
    for depth, group in enumerate(reversed(groups)):
        assert {rate[id(p)] for p in group} == {0.1 * 0.5**depth}
    assert {rate[id(p)] for p in model.head_parameters()} == {0.7}
    assert set(rate) == {id(p) for p in model.parameters()}
