"""Runs evaluation networks in full float32 precision, also inside a mixed-precision training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
_SWITCHES = threading.RLock()  # the precisions are settings of the process, not of a thread


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that runs a network without gradients, autocast, and TF32 in convolutions and matrix products.

    A validation loop calls metrics inside bf16 autocast, cuDNN uses TF32 for convolutions by default, and matrix
    products do so after ``torch.set_float32_matmul_precision("high")``, which many trainings call. Each changes
    features in the third digit, while metrics are compared to the fourth. Networks of several threads run in turn.
    """

    @wraps(function)
    def exact(*args: P.args, **kwargs: P.kwargs) -> R:
        with (
            _SWITCHES,
            torch.inference_mode(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            _full_products(),
        ):
            return function(*args, **kwargs)

    return exact


@contextmanager
def _full_products() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
