"""Products -> batches: a typed batch, and batches cut by length and token budget.

Shapes: B products of a batch, T <= B of them with text, M <= B with a photo, L the longest text of the T.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from rakuten.data.preprocess import Example
from rakuten.data.text_encoder import Tokens


@dataclass(frozen=True)
class Batch:
    """Inputs of a model. Absent modalities take no room: tokens and pixels hold the rows that have them, in order."""

    tokens: Tensor  # (T, L) int64, padded
    token_weights: Tensor  # (T, L) float32, 0 where padded
    pixels: Tensor  # (M, 3, S, S) uint8
    has_text: Tensor  # (B,) bool with T times True
    has_image: Tensor  # (B,) bool with M times True
    labels: Tensor  # (B,) int64 class indices, -1 where unknown
    rows: Tensor  # (B,) int64 row numbers in the table that the products came from

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        moved = {f.name: getattr(self, f.name).to(device, non_blocking=non_blocking) for f in fields(self)}
        return Batch(**moved)

    def pin_memory(self) -> "Batch":
        return Batch(**{f.name: getattr(self, f.name).pin_memory() for f in fields(self)})

    def without(self, *, text: Tensor | None = None, image: Tensor | None = None) -> "Batch":
        """The same batch with modalities hidden where the (B,) bool masks say so."""
        batch = self
        if text is not None:
            keep = ~text[batch.has_text]
            hidden = {"tokens": batch.tokens[keep], "token_weights": batch.token_weights[keep]}
            batch = replace(batch, has_text=batch.has_text & ~text, **hidden)
        if image is not None:
            keep = ~image[batch.has_image]
            batch = replace(batch, has_image=batch.has_image & ~image, pixels=batch.pixels[keep])
        return batch


def pad(texts: Sequence[Tokens], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Token ids and weights (T, L) of T texts."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    mask = np.arange(lengths.max(initial=1))[None, :] < lengths[:, None]
    tokens = np.full(mask.shape, pad_id, dtype=np.int64)
    weights = np.zeros(mask.shape, dtype=np.float32)
    if texts:
        tokens[mask] = np.concatenate([text.ids for text in texts])
        weights[mask] = np.concatenate([text.weights for text in texts])
    return tokens, weights


def collate(
    examples: Sequence[Example],
    *,
    pad_id: int,
    image_px: int,
    labels: Sequence[int] = (),
    rows: Sequence[int] = (),
) -> Batch:
    """A batch of examples; `labels` default to -1, `rows` to 0, 1, 2, ..."""
    tokens, weights = pad([example.tokens for example in examples if example.tokens is not None], pad_id)
    photos = [example.pixels for example in examples if example.pixels is not None]
    pixels = np.stack(photos) if photos else np.empty((0, 3, image_px, image_px), dtype=np.uint8)
    return Batch(
        tokens=torch.from_numpy(tokens),
        token_weights=torch.from_numpy(weights),
        pixels=torch.from_numpy(pixels),
        has_text=torch.tensor([example.tokens is not None for example in examples], dtype=torch.bool),
        has_image=torch.tensor([example.pixels is not None for example in examples], dtype=torch.bool),
        labels=torch.tensor(list(labels) or [-1] * len(examples), dtype=torch.int64),
        rows=torch.tensor(list(rows) or range(len(examples)), dtype=torch.int64),
    )


class BatchRows(list[int]):
    """Positions of a batch's products, and the epoch that they are drawn in: what random changes are seeded by."""

    epoch = 0


class TokenBudgetSampler(Sampler[BatchRows]):
    """Batches of products of like length, each within `batch_size` products and `token_budget` padded tokens.

    Shuffled, an epoch draws its own order from (seed, epoch): products are sorted by length within pools of fifty
    batches, so that batches are even in length and still differ from epoch to epoch. Every epoch has as many batches
    as the first, since Lightning and the learning rate's schedule count on it: a few too few are made up for by
    halving the largest, of a few too many the smallest sit out.
    """

    POOL_BATCHES = 50

    def __init__(
        self,
        lengths: NDArray[np.int64],
        *,
        batch_size: int,
        token_budget: int,
        seed: int | None,
        max_batches: int = 0,
    ):
        self.lengths, self.batch_size, self.token_budget = lengths, batch_size, token_budget
        self.seed, self.max_batches = seed, max_batches
        self._epoch = 0
        self._num_batches = 0 if seed is None else len(self._shuffled(np.random.default_rng([seed, 0])))

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this at the start of each epoch, also of the one that a resumed run starts with."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[BatchRows]:
        for positions in self._batches():
            batch = BatchRows(positions)
            batch.epoch = self._epoch
            yield batch

    def __len__(self) -> int:
        return len(self._batches())

    def _batches(self) -> list[list[int]]:
        if self.seed is None:
            batches = self._cut(np.argsort(self.lengths, kind="stable"))
        else:
            rng = np.random.default_rng([self.seed, self._epoch])
            batches = _with_length(self._shuffled(rng), self._num_batches)
            batches = [batches[index] for index in rng.permutation(len(batches))]
        return batches[: self.max_batches] if self.max_batches else batches

    def _shuffled(self, rng: np.random.Generator) -> list[list[int]]:
        order = rng.permutation(len(self.lengths))
        size = self.POOL_BATCHES * self.batch_size
        pools = [order[start : start + size] for start in range(0, len(order), size)]
        ordered = [pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools]
        return [batch for pool in ordered for batch in self._cut(pool)]

    def _cut(self, order: NDArray[np.int64]) -> list[list[int]]:
        """Consecutive batches of `order`; a product longer than the budget makes a batch of its own."""
        batches: list[list[int]] = [[]]
        longest = 0
        for row in order.tolist():
            longest = max(longest, int(self.lengths[row]))
            if batches[-1] and (
                len(batches[-1]) == self.batch_size or longest * (len(batches[-1]) + 1) > self.token_budget
            ):
                batches.append([])
                longest = int(self.lengths[row])
            batches[-1].append(row)
        return batches if batches[-1] else []


def _with_length(batches: list[list[int]], num_batches: int) -> list[list[int]]:
    """Exactly `num_batches`: the largest are halved, or the smallest left out."""
    if len(batches) == num_batches:
        return batches
    by_size = sorted(batches, key=len, reverse=True)[:num_batches]
    while len(by_size) < num_batches:
        largest = max(by_size, key=len)
        by_size.remove(largest)
        by_size += [largest[: len(largest) // 2], largest[len(largest) // 2 :]]
    return by_size
