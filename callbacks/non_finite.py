"""Logs the norm of the gradients, and stops a run with a non-finite loss or gradient before its weights are saved.

The message names the step and its clips. DeepSpeed computes the norm within its step; there it is read after the step,
before a checkpoint is written.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor

from datamodules.clip_windows import ClipBatch, RankBatch, micro_batches
from runtime.errors import UserError


class NonFiniteGuard(Callback):
    """Checks every loss and the norm of all gradients; reports a non-finite one in ``non_finite_rank{rank}.json``.

    Must precede the callbacks that write checkpoints.
    """

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
        if not bool(torch.isfinite(loss)):
            self._stop(trainer, trainer.global_step, f"the loss is {loss.item()} on clips", [batch])

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Logs the norm of the gradients before clipping as ``train/grad_norm`` and checks it.

        Raises:
            UserError: If it is not finite, after the report is written. The weights are still unchanged.
        """
        gradients = [each.grad for each in pl_module.parameters() if each.grad is not None]
        if gradients:  # DeepSpeed has moved them into its own buffers
            self._check_norm(trainer, pl_module, float(torch.nn.utils.get_total_norm(gradients)), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: RankBatch, batch_idx: int
    ) -> None:
        """Logs and checks the norm that DeepSpeed computed in its step, before a checkpoint is written.

        Raises:
            UserError: If it is not finite, after the report is written.
        """
        norm = getattr(trainer.model, "get_global_grad_norm", lambda: None)()
        if norm is not None:
            self._check_norm(trainer, pl_module, float(norm), trainer.global_step - 1)

    def _check_norm(self, trainer: Trainer, module: LightningModule, norm: float, step: int) -> None:
        module.log("train/grad_norm", norm, batch_size=1)
        # DeepSpeed gives -1 for a norm that is not finite.
        if not math.isfinite(norm) or norm < 0:
            # All ranks stop: gradients are averaged over them, so each has the same norm.
            others = f", averaged over {trainer.world_size} ranks," if trainer.world_size > 1 else ""
            self._stop(trainer, step, f"the norm of the gradients{others} is {norm} after clips", self._batches)

    def _stop(self, trainer: Trainer, step: int, found: str, batches: list[ClipBatch]) -> NoReturn:
        # Stages with loaders of their own may train on plain tensors, which have no keys.
        batches, step_batches = ([each for each in some if isinstance(each, dict)] for some in (batches, self._batches))
        members = ("audio", "lip", "expression", "latent", "reference_expression", "first_expression")
        report: dict[str, Any] = {
            "found": found,
            "global_step": step,
            "keys": [key for batch in batches for key in batch["key"]],
            "draws": [draw for batch in batches for draw in batch["draw"].tolist()],
            "starts": [start for batch in batches for start in batch["start"].tolist()],
            "frames": [frames for batch in batches for frames in batch["frames"].tolist()],
            # CLUB spreads a non-finite value to all micro-batches of a step.
            "clips_with_non_finite": {
                name: [key for part in step_batches for key in _bad_clips(part, name)]
                for name in members
                if step_batches and name in step_batches[0]
            },
            "logged": {name: str(float(value)) for name, value in trainer.callback_metrics.items()},
        }
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"non_finite_rank{trainer.global_rank}.json"
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        keys = sorted({key for bad in report["clips_with_non_finite"].values() for key in bad}) or report["keys"]
        shown = (", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")) or "without keys"
        raise UserError(
            f"step {step}: {found} {shown}; {path} lists the complete batch. "
            "Check these clips, or lower the learning rate, and resume from the last checkpoint"
        )


def _bad_clips(batch: ClipBatch, member: str) -> list[str]:
    """Keys of the clips with a non-finite value in a member of the batch."""
    values: Tensor = batch[member]  # type: ignore[literal-required]
    bad = (~torch.isfinite(values.float())).flatten(1).any(1).tolist()
    return [key for key, is_bad in zip(batch["key"], bad, strict=True) if is_bad]
