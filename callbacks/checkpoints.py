"""Checkpoints of a run: every so many steps, and where training ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT


class RunCheckpoints(ModelCheckpoint):
    """Keeps the latest regular checkpoint and ``last.ckpt``, which also holds the last step of a run out of time.

    Lightning's own writes nothing when training ends between two regular checkpoints, and what is saved after the last
    batch no longer resumes in the middle of an epoch; so the end is saved as part of its batch.

    Args:
        folder: of the checkpoints.
        every: steps between two.
    """

    def __init__(self, folder: str | Path, every: int) -> None:
        super().__init__(
            folder, filename="{step}", every_n_train_steps=every, save_last=True, enable_version_counter=False
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Saves when it is time, or the last."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        ending = trainer.should_stop or trainer.global_step >= trainer.max_steps
        if ending and trainer.global_step % self._every_n_train_steps:
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
