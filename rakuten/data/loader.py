"""Preprocessed products -> a loader of batches of like length; nothing of Lightning, so that evaluation starts without it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from rakuten.config import AugmentConfig
from rakuten.data.augment_text import augment_text, changes_text
from rakuten.data.batching import Batch, BatchRows, TokenBudgetSampler, collate
from rakuten.data.features import Features
from rakuten.data.preprocess import Example


class BatchDataset(Dataset[Batch]):
    """Products by lists of row numbers: one item is a batch.

    With `augment`, texts are changed at random and tokenized anew, each product in its own way in each epoch: the draw
    follows from `seed`, epoch and row, whatever process makes it.
    """

    def __init__(
        self, features: Features, rows: NDArray[np.int64], augment: AugmentConfig | None = None, seed: int = 0
    ):
        self.features, self.rows, self.seed = features, rows, seed
        tokens = features.store.tokens
        self.lengths = np.zeros(len(rows), np.int64) if tokens is None else tokens.lengths[rows]
        self.augment = (
            augment if augment is not None and tokens is not None and changes_text(augment) else None
        )
        self._titles = features.table["designation"].to_numpy()
        self._descriptions = features.table["description"].to_numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, positions: BatchRows) -> Batch:
        rows = self.rows[positions].tolist()
        preprocessor = self.features.preprocessor
        encoder = preprocessor.text_encoder
        examples = [self.features.store[row] for row in rows]
        if self.augment is not None:
            examples = self._changed(examples, rows, positions.epoch, self.augment)
        return collate(
            examples,
            pad_id=0 if encoder is None else encoder.pad_id,
            image_px=preprocessor.image_px or 1,
            labels=self.features.labels[rows].tolist(),
            rows=rows,
        )

    def _changed(
        self, examples: list[Example], rows: list[int], epoch: int, config: AugmentConfig
    ) -> list[Example]:
        texts = [
            augment_text(
                self._titles[row],
                self._descriptions[row],
                config,
                np.random.default_rng([self.seed, epoch, row]),
            )
            for row in rows
        ]
        tokens = self.features.preprocessor.tokens([title for title, _ in texts], [text for _, text in texts])
        return [replace(example, tokens=new) for example, new in zip(examples, tokens, strict=True)]


def make_loader(
    dataset: BatchDataset,
    *,
    batch_size: int,
    token_budget: int,
    seed: int | None = None,
    max_batches: int = 0,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Batches of like length; shuffled where a `seed` is given."""
    sampler = TokenBudgetSampler(
        dataset.lengths, batch_size=batch_size, token_budget=token_budget, seed=seed, max_batches=max_batches
    )
    # As `sampler` with batching switched off, not as `batch_sampler`: only so does Lightning call its set_epoch.
    return DataLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
    )
