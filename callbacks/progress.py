"""The progress bar of a training that ends by steps."""

from __future__ import annotations

import math

from lightning.pytorch.callbacks import RichProgressBar


class ProgressBar(RichProgressBar):
    """Lightning's, which takes a training without a number of epochs for one of -1 and says so: ``Epoch 0/-2``."""

    def _get_train_description(self, current_epoch: int) -> str:
        trainer = self.trainer
        epochs = max(current_epoch + 1, math.ceil(trainer.max_steps / trainer.num_training_batches))
        return f"{f'Epoch {current_epoch + 1}/{epochs}':{len(self.validation_description)}}"
