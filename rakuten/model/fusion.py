"""Fusions: two towers' features -> logits, one small module each, under one contract.

`forward(text, image, text_logits, image_logits, has_text) -> (B, C)`: pooled features (B, D_text) and (B, D_image) of every
product, a learned embedding standing in where a modality is absent, each tower's own logits (B, C), and where there is
text, (B,) bool.
"""

import torch
from torch import Tensor, nn

from rakuten.config import FusionConfig


class ConcatFusion(nn.Module):
    """An MLP over both vectors side by side."""

    def __init__(self, text_dim: int, image_dim: int, num_classes: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.LayerNorm(text_dim + image_dim),
            nn.Linear(text_dim + image_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.output = nn.Linear(hidden_dim, num_classes)

    def forward(
        self, text: Tensor, image: Tensor, text_logits: Tensor, image_logits: Tensor, has_text: Tensor
    ) -> Tensor:
        logits: Tensor = self.output(self.mlp(torch.cat([text, image], dim=1)))
        return logits


class GatedFusion(nn.Module):
    """A gated multimodal unit (Arevalo et al., 2017): a learned gate weighs the modalities dimension by dimension.

    The product of both projections stands beside the gated sum, since a sum alone cannot express a class that only the
    combination of text and photo tells.
    """

    def __init__(self, text_dim: int, image_dim: int, num_classes: int, hidden_dim: int, dropout: float):
        super().__init__()
        self.text = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, hidden_dim))
        self.image = nn.Sequential(nn.LayerNorm(image_dim), nn.Linear(image_dim, hidden_dim))
        self.gate = nn.Linear(text_dim + image_dim, hidden_dim)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_dim, num_classes)

    def forward(
        self, text: Tensor, image: Tensor, text_logits: Tensor, image_logits: Tensor, has_text: Tensor
    ) -> Tensor:
        gate = torch.sigmoid(self.gate(torch.cat([text, image], dim=1)))
        a, b = torch.tanh(self.text(text)), torch.tanh(self.image(image))
        logits: Tensor = self.output(self.dropout(torch.cat([gate * a + (1 - gate) * b, a * b], dim=1)))
        return logits


class LateFusion(nn.Module):
    """Learned weights over each tower's logits, class by class: what text and photo say, added up.

    A photo counts otherwise where there is no text to overrule it.
    """

    def __init__(self, num_classes: int, image_weight: float):
        super().__init__()
        self.text_weight = nn.Parameter(torch.ones(num_classes))
        self.image_weight = nn.Parameter(torch.full((num_classes,), image_weight))
        self.image_weight_alone = nn.Parameter(torch.ones(num_classes))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(
        self, text: Tensor, image: Tensor, text_logits: Tensor, image_logits: Tensor, has_text: Tensor
    ) -> Tensor:
        image_weight = torch.where(has_text[:, None], self.image_weight, self.image_weight_alone)
        return self.text_weight * text_logits + image_weight * image_logits + self.bias


Fusion = ConcatFusion | GatedFusion | LateFusion


def build_fusion(config: FusionConfig, text_dim: int, image_dim: int, num_classes: int) -> Fusion:
    if config.kind == "late":
        return LateFusion(num_classes, config.image_weight)
    kind = ConcatFusion if config.kind == "concat" else GatedFusion
    return kind(text_dim, image_dim, num_classes, config.hidden_dim, config.dropout)
