"""Evaluation networks compute in float32, whatever training around them does."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Runs a network without gradients, without autocast and without TF32 convolutions.

    A validation loop calls metrics inside bf16 autocast, and cuDNN rounds convolutions to TF32 by default: either moves
    features in the third digit, and with it a value that is compared to the fourth.
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
