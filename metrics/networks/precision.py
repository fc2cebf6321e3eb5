"""Runs evaluation networks in full float32 precision, also inside a mixed-precision training."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that runs a network without gradients, autocast and TF32 convolutions.

    A validation loop calls metrics inside bf16 autocast, and cuDNN uses TF32 for convolutions by default. Both change
    features in the third digit, while metrics are compared to the fourth.
    """

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        ):
            return function(*args, **kwargs)

    return exact
