"""Records how many frames were trained in windows of each length, for the export."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from datamodules.clip_windows import RankBatch, micro_batches
from datamodules.loader import StreamDataset
from lightning_modules.ethd.checkpoint import TRAINED_WINDOWS


class TrainedWindows(Callback):
    """Counts the frames of all ranks by the length of their window. Lengths follow from the order, without reading.

    Attributes:
        frames: Length of a window -> number of frames that were trained in such windows.
    """

    def __init__(self) -> None:
        self.frames: Counter[int] = Counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: RankBatch, batch_idx: int
    ) -> None:
        """Adds the windows of the global batch."""
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if isinstance(dataset, StreamDataset):
            step = micro_batches(batch)[0]["step"]
            self.frames += dataset.frames_by_length(range(step, step + 1))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the counts to the checkpoint."""
        checkpoint[TRAINED_WINDOWS] = dict(sorted(self.frames.items()))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continues the counts. Those of a checkpoint without them begin at this start."""
        self.frames = Counter(checkpoint.get(TRAINED_WINDOWS, {}))
