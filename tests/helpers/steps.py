"""A step of training, written out once."""

from __future__ import annotations

from torch import Tensor
from torch.optim import Optimizer


def descend(optimizer: Optimizer, loss: Tensor) -> None:
    """One step down the gradient of this loss alone."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
