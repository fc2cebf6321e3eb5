"""Learning rate schedule: linear warmup times cosine decay. Step s counts from 0; S is the number of steps of the run.

rate(s) = min(1, (s + 1) / warmup) * (least + (1 - least) (1 + cos(pi min(1, s / S))) / 2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

LEAST = {"none": 1.0, "cosine": 0.01}  # model.lr_decay -> final fraction of the learning rate


def rate(step: int, max_steps: int, warmup: int, least: float) -> float:
    """Factor of the learning rate at a step, in [0, 1].

    Args:
        step: Zero-based step.
        max_steps: S. Later steps keep the final rate.
        warmup: Number of warmup steps; 0 for none.
        least: Final value of the cosine; 1 for no decay.
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    return rising * (least + (1 - least) * (1 + math.cos(math.pi * min(1.0, step / max_steps))) / 2)


def scheduled(
    optimizer: torch.optim.Optimizer, max_steps: int, warmup: int, least: float, follow: Sequence[bool] = ()
) -> OptimizerLRSchedulerConfig:
    """Attaches ``rate`` to an optimizer.

    Args:
        optimizer: Optimizer.
        max_steps: S.
        warmup: Number of warmup steps.
        least: Final value of the cosine; 1 for no decay.
        follow: Whether each parameter group follows the schedule; the others keep a constant rate. Empty for all.
    """
    rates = [
        (lambda step: rate(step, max_steps, warmup, least)) if follows else (lambda step: 1.0)
        for follows in follow or [True] * len(optimizer.param_groups)
    ]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
