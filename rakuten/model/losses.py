"""What training minimises."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from rakuten.data.batching import Batch
from rakuten.model.classifier import Logits


def classification_loss(
    logits: Logits,
    batch: Batch,
    *,
    kind: str,
    class_weights: Tensor | None,
    label_smoothing: float,
    aux_text: float,
    aux_image: float,
) -> Tensor:
    """The loss of the fused logits, plus each tower's own cross-entropy where its modality is present.

    Joint training alone can end below text only, one tower starving the other; a loss of its own keeps each learning.
    """
    if kind == "squared_hinge":
        loss = squared_hinge(logits.fused, batch.labels, class_weights)
    else:
        loss = cross_entropy(logits.fused, batch.labels, class_weights, label_smoothing=label_smoothing)
    for weight, own, present in (
        (aux_text, logits.text, batch.has_text),
        (aux_image, logits.image, batch.has_image),
    ):
        if weight and own is not None and present.any():
            loss = loss + weight * cross_entropy(
                own[present].float(), batch.labels[present], class_weights, label_smoothing=label_smoothing
            )
    return loss


def squared_hinge(logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """One-vs-rest squared hinge, as LinearSVC's: mean over products of the sum over classes."""
    signs = 2.0 * torch.nn.functional.one_hot(labels, logits.shape[1]) - 1
    losses = (1 - signs * logits).clamp_min(0).square().sum(1)
    if class_weights is None:
        return losses.mean()
    weights = class_weights[labels]
    return (losses * weights).sum() / weights.sum()


def prior_bias(counts: Tensor, kind: str) -> Tensor:
    """(C,) logits that minimise the loss `kind` for a model that knows nothing but the (C,) training counts."""
    priors = (counts.float() + 1) / (counts.float() + 1).sum()
    return 2 * priors - 1 if kind == "squared_hinge" else torch.log(priors)


def class_weights(counts: Tensor, kind: str) -> Tensor | None:
    """(C,) weights of mean one over products, from (C,) training counts: 1/n, 1/sqrt(n), or None for `none`."""
    if kind == "none":
        return None
    counts = counts.float().clamp_min(1)
    weights = 1 / (counts if kind == "balanced" else torch.sqrt(counts))
    return weights * counts.sum() / (weights * counts).sum()
