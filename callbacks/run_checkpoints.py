"""Checkpoints of a run: at regular steps, before every validation, and at the end of training.

Checkpoints are written within ``on_train_batch_end``, because one written later cannot be resumed in the middle of an
epoch. Lightning logs the losses of the batch afterwards. A checkpoint is therefore renamed to its final name only after
the log is flushed: whenever a run is killed, the log contains all steps of the last checkpoint.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.types import STEP_OUTPUT

from configs.errors import ConfigError
from lightning_modules.checkpoint_files import BEST, LAST, PART, clear_parts, commit, point, prune, remove, step_name
from lightning_modules.checkpoints import CheckpointError
from runtime.tensors import load_saved

GIB = 2**30
# Words of torch's errors if a file cannot be written; the last one, if another rank has failed and removed the folder.
WRITER = ("inline_container", "PytorchStreamWriter", "Parent directory")


class StraightToDisk(TorchCheckpointIO):
    """Writes a checkpoint directly, without Lightning's two copies in memory. The caller renames the file.

    Reads one memory-mapped: the ranks of a machine share the pages of the file, and each copies only what it keeps.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes ``checkpoint`` to ``path``."""
        torch.save(checkpoint, path)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Reads a checkpoint onto the CPU."""
        return load_saved(path, mmap=True)


class RunCheckpoints(Checkpoint):
    """Writes ``step=N.ckpt``; ``last.ckpt`` links to the newest and ``best.ckpt`` to the best checkpoint.

    Args:
        folder: Folder of the checkpoints.
        every: Steps between checkpoints.
        validate_every: Steps between validations; each is preceded by a checkpoint.
        keep: Number of newest checkpoints to keep.
        best: Name of the validated value that selects the best checkpoint, lower is better; None for no best one.
        saved: Callback after a checkpoint is written.
    """

    def __init__(
        self,
        folder: str | Path,
        every: int,
        validate_every: int,
        keep: int = 2,
        best: str | None = None,
        saved: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = Path(folder)
        self.every, self.validate_every = every, validate_every
        self.keep, self.best, self.best_value = keep, best, float("inf")
        self._saved = saved
        self._part: Path | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Removes incomplete checkpoints of a killed run."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_parts(self.folder)
        trainer.strategy.barrier("checkpoints")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Writes a checkpoint if one is due or training ends.

        Raises:
            CheckpointError: If it cannot be written. The previous checkpoint stays.
        """
        step = trainer.global_step
        ending = trainer.should_stop or step >= trainer.max_steps
        if not (ending or step % self.every == 0 or step % self.validate_every == 0):
            return
        part = self.folder / (step_name(step) + PART)
        try:
            trainer.save_checkpoint(str(part))
        except (OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(word in str(error) for word in WRITER):
                raise
            if part.exists():  # another rank may have removed it
                remove(part)
            raise CheckpointError(self._cannot_write(part, error)) from error
        self._part = part
        self._saved()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Commits the checkpoint of the last batch."""
        self._commit(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Commits the checkpoint of the last batch."""
        self._commit(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Commits the checkpoint of the last batch."""
        self._commit(trainer)

    def _commit(self, trainer: Trainer) -> None:
        part, self._part = self._part, None
        if part is None or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        commit(part)
        prune(self.folder, self.keep)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Links ``best.ckpt`` to the checkpoint before this validation if it is the best.

        Raises:
            ConfigError: If no validated value has that name.
        """
        if self.best is None:
            return
        value = trainer.callback_metrics.get(self.best)
        if value is None:
            found = ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("val/")))
            raise ConfigError(f"checkpoints.best={self.best}: not a validated value; choose one of {found}")
        path = self.folder / step_name(trainer.global_step)
        if float(value) < self.best_value and path.exists():
            self.best_value = float(value)
            if trainer.is_global_zero:
                point(self.folder / BEST, path.name)
                prune(self.folder, self.keep)

    def state_dict(self) -> dict[str, Any]:
        """Name and best value so far."""
        return {"best": self.best, "best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best value if it has the same name."""
        if state_dict.get("best") == self.best:
            self.best_value = state_dict["best_value"]

    def _cannot_write(self, part: Path, error: Exception) -> str:
        free = shutil.disk_usage(self.folder).free / GIB
        last = self.folder / LAST
        kept = f"{last} is still {last.resolve().name}" if last.exists() else "there is no earlier checkpoint"
        return (
            f"{part.name.removesuffix(PART)} cannot be written to {self.folder} ({str(error).splitlines()[0]}; "
            f"{free:.1f} GiB free); {kept}. Free space, or lower checkpoints.keep, and resume with ckpt_path=last"
        )
