"""A single training step."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """Takes one optimizer step on a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
