"""The LightningModule: steps and logging."""

from dataclasses import replace
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassF1Score

from rakuten.config import ModelConfig, OptimConfig, TrainerConfig
from rakuten.data.augment_image import augment
from rakuten.data.batching import Batch
from rakuten.errors import RakutenError
from rakuten.experiment.optim import build_optimizer, build_scheduler, freeze
from rakuten.model.classifier import Logits, ProductClassifier
from rakuten.model.losses import class_weights, classification_loss

VAL_F1 = "val/weighted_f1"


class ClassifierModule(LightningModule):
    """Trains a ProductClassifier; `class_counts` (C,) are those of the training products."""

    class_weights: Tensor | None

    def __init__(
        self,
        classifier: ProductClassifier,
        model: ModelConfig,
        optim: OptimConfig,
        trainer: TrainerConfig,
        class_counts: Tensor,
        seed: int,
    ):
        super().__init__()
        self.classifier = classifier
        self.model_config, self.optim_config, self.trainer_config, self.seed = model, optim, trainer, seed
        self.register_buffer(
            "class_weights", class_weights(class_counts, optim.class_weight), persistent=False
        )
        self.val_f1 = MulticlassF1Score(len(class_counts), average="weighted")
        freeze(classifier, model)
        # Kept out of this module's state: a compiled module's keys carry a prefix.
        self._forward: Any = [torch.compile(classifier) if trainer.compile else classifier]
        if trainer.channels_last:
            _channels_last(classifier)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Every epoch draws from its own stream, so that a resumed run repeats what an undisturbed one would do. Not at
        # the epoch's start: loaders draw from the stream too, some before and some after that.
        if batch_idx == 0:
            torch.manual_seed(self.seed * 100_003 + self.current_epoch)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        batch = self._hide_modalities(batch)
        batch = replace(batch, pixels=augment(batch.pixels, self.model_config.augment))
        loss = self._loss(self._forward[0](batch), batch)
        if not torch.isfinite(loss):
            raise RakutenError(
                f"training diverged: the loss is {loss.item()} at step {self.global_step}",
                fix="a smaller learning rate (optim.lr, model.text.lr, model.image.lr) or a longer optim.warmup",
            )
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        logits = self.classifier(batch)
        self.val_f1.update(logits.fused, batch.labels)
        self.log("val/loss", self._loss(logits, batch), prog_bar=True, batch_size=len(batch))

    def on_validation_epoch_end(self) -> None:
        self.log(VAL_F1, self.val_f1.compute(), prog_bar=True)
        self.val_f1.reset()

    def configure_optimizers(self) -> Any:
        optimizer: Optimizer = build_optimizer(
            self.classifier, self.model_config, self.optim_config, fused=self.trainer_config.fused
        )
        num_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(optimizer, num_steps, self.optim_config.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _loss(self, logits: Logits, batch: Batch) -> Tensor:
        return classification_loss(
            logits,
            batch,
            kind=self.optim_config.loss,
            class_weights=self.class_weights,
            label_smoothing=self.optim_config.label_smoothing,
            aux_text=self.model_config.aux_text,
            aux_image=self.model_config.aux_image,
        )

    def _hide_modalities(self, batch: Batch) -> Batch:
        """Modality dropout: rows with both lose one of them at random, so that the model learns to answer without."""
        share = self.model_config.modality_dropout
        if not share:
            return batch
        both = batch.has_text & batch.has_image
        draw = torch.rand(len(batch), device=both.device)
        return batch.without(
            text=both & (draw < share / 2), image=both & (draw >= share / 2) & (draw < share)
        )


def _channels_last(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
