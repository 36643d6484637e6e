"""What training minimises."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rakuten.data.batching import Batch
from rakuten.model.classifier import Logits


def classification_loss(
    logits: Logits, batch: Batch, *, class_weights: Tensor | None, label_smoothing: float, aux_weight: float
) -> Tensor:
    """Cross-entropy of the fused logits, plus `aux_weight` times each tower's own where its modality is present.

    Joint training alone can end below text only, one tower starving the other; a loss of its own keeps each learning.
    """
    loss = cross_entropy(logits.fused, batch.labels, class_weights, label_smoothing=label_smoothing)
    if aux_weight:
        for own, present in ((logits.text, batch.has_text), (logits.image, batch.has_image)):
            if own is not None and present.any():
                loss = loss + aux_weight * cross_entropy(
                    own[present].float(),
                    batch.labels[present],
                    class_weights,
                    label_smoothing=label_smoothing,
                )
    return loss


def class_weights(counts: Tensor, kind: str) -> Tensor | None:
    """(C,) weights of mean one over products, from (C,) training counts: 1/n, 1/sqrt(n), or None for `none`."""
    if kind == "none":
        return None
    counts = counts.float().clamp_min(1)
    weights = 1 / (counts if kind == "balanced" else torch.sqrt(counts))
    return weights * counts.sum() / (weights * counts).sum()
