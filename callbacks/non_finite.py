"""Stops a run whose loss is no longer a number, before the optimizer spreads it, and says which clips it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.clip_windows import ClipBatch
from runtime.errors import UserError


class NonFiniteGuard(Callback):
    """Checks every loss before its backward pass; a bad one is in ``non_finite_rank{rank}.json`` of the run."""

    def __init__(self) -> None:
        self._batch: ClipBatch = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: ClipBatch, batch_idx: int
    ) -> None:
        """Remembers the batch."""
        self._batch = batch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Lets a finite loss pass.

        Raises:
            UserError: for any other, after saving what the batch was.
        """
        if bool(torch.isfinite(loss)):
            return
        batch = self._batch
        members = ("audio", "lip", "expression", "latent", "reference_expression", "first_expression")
        report: dict[str, Any] = {
            "loss": str(loss.item()),
            "global_step": trainer.global_step,
            "keys": batch["key"],
            "draws": batch["draw"].tolist(),
            "starts": batch["start"].tolist(),
            "frames": batch["frames"].tolist(),
            "clips_with_non_finite": {
                name: [key for key, bad in zip(batch["key"], _bad(batch[name]), strict=True) if bad]  # type: ignore[literal-required]
                for name in members
                if name in batch
            },
            "logged": {name: str(float(value)) for name, value in trainer.callback_metrics.items()},
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"non_finite_rank{trainer.global_rank}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        shown = ", ".join(batch["key"][:4]) + (", ..." if len(batch["key"]) > 4 else "")
        raise UserError(
            f"step {trainer.global_step}: the loss is {loss.item()} on clips {shown}; {path} holds the whole batch's "
            "keys. Look at these clips, or lower the learning rate, and resume from the last checkpoint"
        )


def _bad(values: Tensor) -> list[bool]:
    """Which of the B rows hold a value that is not finite."""
    return (~torch.isfinite(values.float())).flatten(1).any(1).tolist()
