"""Checkpoints of a run: every so many steps, before every validation, and where training ends.

What is saved after its batch does not resume in the middle of an epoch, so saving is part of the batch. The batch's
losses are logged after that; so a checkpoint takes its name only then, when the log that leads to it is on the disk: a
kill at any moment leaves a checkpoint whose steps are all in the log.
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

GIB = 2**30
WRITER = ("inline_container", "PytorchStreamWriter")  # what torch's errors name when a file takes no more


class StraightToDisk(TorchCheckpointIO):
    """Writes without Lightning's two copies of the checkpoint in memory; the caller renames."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes to ``path``."""
        torch.save(checkpoint, path)


class RunCheckpoints(Checkpoint):
    """Writes ``step=N.ckpt``; ``last.ckpt`` links to the newest and ``best.ckpt`` to the best.

    Args:
        folder: of the checkpoints.
        every: steps between two.
        validate_every: steps between validations; each has a checkpoint.
        keep: how many of the newest stay.
        best: validated value by which the best is chosen, smaller is better; None for none.
        saved: called when one is written.
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
        """Clears what a killed run left half-written."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_parts(self.folder)
        trainer.strategy.barrier("checkpoints")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Writes when it is time, or the last.

        Raises:
            CheckpointError: when the disk does not take it; the last checkpoint stays as it is.
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
            if part.exists():
                remove(part)
            raise CheckpointError(self._cannot_write(part, error)) from error
        self._part = part
        self._saved()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Names what the last batch wrote."""
        self._commit(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Names what the last batch wrote."""
        self._commit(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Names what the last batch wrote."""
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
        """Keeps the checkpoint before this validation when it is the best.

        Raises:
            CheckpointError: when there is no value of that name.
        """
        if self.best is None:
            return
        value = trainer.callback_metrics.get(self.best)
        if value is None:
            found = ", ".join(sorted(name for name in trainer.callback_metrics if name.startswith("val/")))
            raise ConfigError(f"checkpoints.best={self.best}: is not validated here; choose one of {found}")
        path = self.folder / step_name(trainer.global_step)
        if float(value) < self.best_value and path.exists():
            self.best_value = float(value)
            if trainer.is_global_zero:
                point(self.folder / BEST, path.name)
                prune(self.folder, self.keep)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best, "best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the best value, where it is of the same kind."""
        if state_dict.get("best") == self.best:
            self.best_value = state_dict["best_value"]

    def _cannot_write(self, part: Path, error: Exception) -> str:
        free = shutil.disk_usage(self.folder).free / GIB
        last = self.folder / LAST
        kept = f"{last} is still {last.resolve().name}" if last.exists() else "there is no earlier one"
        return (
            f"{part.name.removesuffix(PART)} cannot be written to {self.folder} ({str(error).splitlines()[0]}; "
            f"{free:.1f} GiB free); {kept}. Make room, or lower checkpoints.keep, and resume with ckpt_path=last"
        )
