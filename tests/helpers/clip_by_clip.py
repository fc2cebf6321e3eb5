"""Makes one process compute as ranks do: the gradient of a batch is the mean of gradients of single clips.

The order of float32 sums affects their result, and a batched product sums in another order than a mean over ranks. With
this replacement of ETHD's training step on one process, only the ranks and the strategy can make a difference.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.ethd.module import EthdModule


def take_clips_one_by_one() -> None:
    """Replaces the training step of ``EthdModule`` in this process."""
    step = EthdModule.training_step
    losses: list[Tensor] = []

    def training_step(self: EthdModule, batch: dict[str, Any], batch_idx: int) -> Tensor:
        losses.clear()
        count = len(batch["key"])
        for clip in range(count):
            alone = {name: _of_clip(value, clip, count) for name, value in batch.items()}
            losses.append(step(self, alone, batch_idx) / count)
        return torch.stack(losses).sum()

    def backward(self: EthdModule, loss: Tensor) -> None:
        for each in losses:  # accumulates the gradients clip by clip
            each.backward()

    EthdModule.training_step, EthdModule.backward = training_step, backward  # type: ignore[method-assign]


def _of_clip(value: Any, place: int, count: int) -> Any:
    whole = isinstance(value, (list, Tensor)) and not (isinstance(value, Tensor) and value.ndim == 0)
    return value[place : place + 1] if whole and len(value) == count else value
