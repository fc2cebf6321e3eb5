"""The learning rate over a run: a linear rise, then a cosine. Step s counts from 0; S is the length of the run.

rate(s) = min(1, (s + 1) / warmup) * (least + (1 - least) (1 + cos(pi min(1, s / S))) / 2)
"""

from __future__ import annotations

import math

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

LEAST = {"none": 1.0, "cosine": 0.01}  # model.lr_decay -> share of the rate that the last step has


def rate(step: int, max_steps: int, warmup: int, least: float) -> float:
    """The share of the learning rate that a step has.

    Args:
        step: from 0.
        max_steps: S; the rate stays as it is after them.
        warmup: steps over which it rises; 0 for none.
        least: what the cosine ends at; 1 for no cosine.
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    return rising * (least + (1 - least) * (1 + math.cos(math.pi * min(1.0, step / max_steps))) / 2)


def scheduled(
    optimizer: torch.optim.Optimizer, max_steps: int, warmup: int, least: float
) -> OptimizerLRSchedulerConfig:
    """An optimizer whose first group follows ``rate``; the rates of its other groups stay as they are."""
    rates = [lambda step: rate(step, max_steps, warmup, least), *[lambda step: 1.0] * (len(optimizer.param_groups) - 1)]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
