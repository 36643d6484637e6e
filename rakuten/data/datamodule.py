"""The loaders of training and validation, as Lightning takes them, and nothing else."""

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from rakuten.config import AugmentConfig, TrainerConfig
from rakuten.data.batching import Batch
from rakuten.data.features import Features
from rakuten.data.loader import BatchDataset, make_loader


class ProductDataModule(LightningDataModule):
    """Training and validation loaders."""

    def __init__(
        self,
        features: Features,
        config: TrainerConfig,
        *,
        train: NDArray[np.int64],
        val: NDArray[np.int64],
        seed: int,
        augment: AugmentConfig | None = None,
    ):
        super().__init__()
        self.config, self.seed = config, seed
        self.train = BatchDataset(features, train, augment, seed)
        self.val = BatchDataset(features, val)

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.train, self.seed)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.val, None)

    def _loader(self, dataset: BatchDataset, seed: int | None) -> DataLoader[Batch]:
        return make_loader(
            dataset,
            batch_size=self.config.batch_size,
            token_budget=self.config.token_budget,
            seed=seed,
            max_batches=self.config.limit_batches,
            num_workers=self.config.num_workers,
            pin_memory=self.config.accelerator == "gpu",
        )
