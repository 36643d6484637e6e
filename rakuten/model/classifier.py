"""Towers, what stands in for a missing modality, and the fusion of both."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rakuten.config import ModelConfig
from rakuten.data.batching import Batch
from rakuten.model.fusion import Fusion, LateFusion, build_fusion
from rakuten.model.tower import Tower


@dataclass(frozen=True)
class Logits:
    """(B, C) each; a tower that the model lacks has none."""

    fused: Tensor
    text: Tensor | None
    image: Tensor | None


class Branch(nn.Module):
    """A tower with its learned stand-in for products that lack its modality, and its own classification head."""

    def __init__(self, tower: Tower, num_classes: int):
        super().__init__()
        self.tower = tower
        self.missing = nn.Parameter(0.02 * torch.randn(tower.out_dim))
        self.head = nn.Linear(tower.out_dim, num_classes)
        # Orthogonal: what a step moves in the features moves as much in the logits, in no preferred direction.
        nn.init.orthogonal_(self.head.weight)

    def forward(self, inputs: tuple[Tensor, ...], present: Tensor) -> Tensor:
        """Pooled features (B, D), the stand-in where absent; `inputs` hold the rows of `present` (B,) alone."""
        pooled = self.missing.expand(len(present), -1)
        if present.any():
            features = self.tower(*inputs).pooled
            pooled = pooled.to(features.dtype).index_copy(0, present.nonzero().squeeze(1), features)
        return pooled

    def filled(self, pooled: Tensor, present: Tensor) -> Tensor:
        """Features (B, D) of which rows that are not `present` (B,) hold whatever, with the stand-in there."""
        return torch.where(present[:, None], pooled, self.missing)


class ProductClassifier(nn.Module):
    """Text only, image only, or both fused: one checkpoint answers whatever a product has."""

    def __init__(self, config: ModelConfig, num_classes: int, text: Tower | None, image: Tower | None):
        super().__init__()
        self.text = None if text is None else Branch(text, num_classes)
        self.image = None if image is None else Branch(image, num_classes)
        self.fusion: Fusion | None = None
        if text is not None and image is not None:
            assert config.fusion is not None
            self.fusion = build_fusion(config.fusion, text.out_dim, image.out_dim, num_classes)

    def forward(self, batch: Batch) -> Logits:
        text = image = None
        if self.text is not None:
            text = self.text((batch.tokens, batch.token_weights), batch.has_text)
        if self.image is not None:
            image = self.image((batch.pixels,), batch.has_image)
        return self._fuse(text, image, batch.has_text)

    def head(self, text: Tensor | None, image: Tensor | None, has_text: Tensor, has_image: Tensor) -> Logits:
        """As `forward`, from the towers' features (B, D_text) and (B, D_image); rows that are absent hold whatever."""
        if self.text is not None:
            assert text is not None
            text = self.text.filled(text, has_text)
        if self.image is not None:
            assert image is not None
            image = self.image.filled(image, has_image)
        return self._fuse(text, image, has_text)

    def _fuse(self, text: Tensor | None, image: Tensor | None, has_text: Tensor) -> Logits:
        text_logits = None if self.text is None else self.text.head(text)
        image_logits = None if self.image is None else self.image.head(image)
        if self.fusion is not None:
            fused = self.fusion(text, image, text_logits, image_logits, has_text)
        else:
            fused = text_logits if image_logits is None else image_logits
        return Logits(fused.float(), text_logits, image_logits)

    def start_at_priors(self, fused_bias: Tensor, own_bias: Tensor) -> None:
        """Set the output biases to what says nothing but how frequent each category is, (C,) each.

        `fused_bias` is for the logits of the training loss, `own_bias` for a tower's own cross-entropy. Under a small
        learning rate a bias would otherwise arrive after the features have had to stand in for it.
        """
        with torch.no_grad():
            for branch in (self.text, self.image):
                if branch is not None:
                    branch.head.bias.copy_(own_bias if self.fusion is not None else fused_bias)
            if isinstance(self.fusion, LateFusion):
                assert self.text is not None
                self.text.head.bias.copy_(fused_bias)
            elif self.fusion is not None:
                self.fusion.output.bias.copy_(fused_bias)

    @property
    def towers(self) -> dict[str, Tower]:
        """The towers that there are, by modality."""
        branches = {"text": self.text, "image": self.image}
        return {name: branch.tower for name, branch in branches.items() if branch is not None}

    def head_parameters(self) -> list[nn.Parameter]:
        """All parameters that belong to no tower."""
        in_towers = {id(p) for tower in self.towers.values() for p in tower.parameters()}
        return [parameter for parameter in self.parameters() if id(parameter) not in in_towers]
