"""Image towers: pixels -> features."""

from difflib import get_close_matches
from typing import Any, cast

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from rakuten.config import TimmConfig
from rakuten.errors import ConfigError, WeightsError
from rakuten.model.tower import Tower, TowerOutput


class TimmTower(Tower):
    """Any timm model without its classifier; takes uint8 pixels and normalises them as the model was trained to."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, dropout: float):
        super().__init__()
        self.backbone = cast(Any, backbone)
        self.dropout = nn.Dropout(dropout)
        # Asked of the model: for some architectures `num_features` is not the pooled width.
        self.out_dim = int(self.backbone.head_hidden_size)
        normalisation = self.backbone.pretrained_cfg
        self.register_buffer(
            "mean", 255 * torch.tensor(normalisation["mean"]).view(3, 1, 1), persistent=False
        )
        self.register_buffer("std", 255 * torch.tensor(normalisation["std"]).view(3, 1, 1), persistent=False)

    @property
    def sequence_dim(self) -> int:
        return int(self.backbone.num_features)

    def forward(self, pixels: Tensor) -> TowerOutput:
        """`pixels` (M, 3, S, S), 0 to 255, any dtype."""
        if self.training and len(pixels) == 1:
            pixels = pixels.expand(2, -1, -1, -1)  # batch norm has no variance of one photo
            return _first(self._encode(pixels))
        return self._encode(pixels)

    def _encode(self, pixels: Tensor) -> TowerOutput:
        images = (pixels.to(self.mean.dtype) - self.mean) / self.std
        features = self.backbone.forward_features(images)
        pooled = self.dropout(self.backbone.forward_head(features, pre_logits=True))
        sequence = features if features.ndim == 3 else _patches(features, self.backbone)
        mask = torch.ones(sequence.shape[:2], dtype=torch.bool, device=pixels.device)
        return TowerOutput(pooled, sequence, mask)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        try:
            names = group_parameters(self.backbone, self.backbone.group_matcher(coarse=False))
        except (AttributeError, NotImplementedError):
            return [list(self.backbone.parameters())]
        by_name = dict(self.backbone.named_parameters())
        groups = [[by_name[name] for name in group if name in by_name] for _, group in sorted(names.items())]
        return [group for group in groups if group]


def build_image_tower(config: TimmConfig, *, load_weights: bool = True) -> TimmTower:
    """The tower of `config`; with `load_weights=False` its architecture alone.

    Raises:
        ConfigError: timm has no such model.
        WeightsError: `checkpoint` does not fit the model, or the weights cannot be had.
    """
    from rakuten.model.pretrained import load_timm_checkpoint, require_timm_weights

    if not timm.is_model(config.name):
        near = get_close_matches(config.name.split(".")[0], timm.list_models(), n=6)
        raise ConfigError(
            f"timm has no model {config.name!r}",
            fix=f"model.image.name, for example one of {', '.join(near) or 'timm.list_models()'}",
        )
    fetch = load_weights and config.pretrained and config.checkpoint is None
    if fetch:
        require_timm_weights(config.name)
    kwargs: dict[str, Any] = {"num_classes": 0} | (
        {"drop_path_rate": config.drop_path} if config.drop_path else {}
    )
    try:
        backbone = _create(config, fetch, kwargs | {"img_size": config.image_px})
    except TypeError:  # convolutional models take any size and do not know the argument
        backbone = _create(config, fetch, kwargs)
    if load_weights and config.checkpoint is not None:
        load_timm_checkpoint(backbone, config.checkpoint)
    return TimmTower(backbone, config.dropout)


def _create(config: TimmConfig, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    try:
        return timm.create_model(config.name, pretrained=pretrained, **kwargs)
    except RuntimeError as error:
        raise WeightsError(f"timm could not build {config.name!r}", got=str(error).splitlines()[0]) from error


def _patches(features: Tensor, backbone: Any) -> Tensor:
    """A feature map, channels first or last, as (M, L, D)."""
    if (
        features.shape[-1] == getattr(backbone, "num_features", None)
        and features.shape[1] != features.shape[-1]
    ):
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def _first(output: TowerOutput) -> TowerOutput:
    return TowerOutput(output.pooled[:1], output.sequence[:1], output.mask[:1])
