"""Stops a run with a non-finite loss before the optimizer step, and names the clips of the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from datamodules.clip_windows import ClipBatch, RankBatch, micro_batches
from runtime.errors import UserError


class NonFiniteGuard(Callback):
    """Checks every loss before the backward pass and reports a non-finite one in ``non_finite_rank{rank}.json``."""

    def __init__(self) -> None:
        self._batches: list[ClipBatch] = []
        self._done = 0  # micro-batches of this step whose loss was checked

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: RankBatch, batch_idx: int
    ) -> None:
        """Stores the batch for the report."""
        self._batches, self._done = micro_batches(batch), 0

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Checks the loss.

        Raises:
            UserError: If it is not finite, after the report is written.
        """
        batch = self._batches[self._done]
        self._done += 1
        if bool(torch.isfinite(loss)):
            return
        members = ("audio", "lip", "expression", "latent", "reference_expression", "first_expression")
        report: dict[str, Any] = {
            "loss": str(loss.item()),
            "global_step": trainer.global_step,
            "keys": batch["key"],
            "draws": batch["draw"].tolist(),
            "starts": batch["start"].tolist(),
            "frames": batch["frames"].tolist(),
            # CLUB spreads a non-finite value to all micro-batches of a step.
            "clips_with_non_finite": {
                name: [key for part in self._batches for key in _bad_clips(part, name)]
                for name in members
                if name in batch
            },
            "logged": {name: str(float(value)) for name, value in trainer.callback_metrics.items()},
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"non_finite_rank{trainer.global_rank}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        keys = sorted({key for found in report["clips_with_non_finite"].values() for key in found}) or batch["key"]
        shown = ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
        raise UserError(
            f"step {trainer.global_step}: the loss is {loss.item()} on clips {shown}; {path} lists the complete batch. "
            "Check these clips, or lower the learning rate, and resume from the last checkpoint"
        )


def _bad_clips(batch: ClipBatch, member: str) -> list[str]:
    """Keys of the clips with a non-finite value in a member of the batch."""
    values: Tensor = batch[member]  # type: ignore[literal-required]
    bad = (~torch.isfinite(values.float())).flatten(1).any(1).tolist()
    return [key for key, is_bad in zip(batch["key"], bad, strict=True) if is_bad]
