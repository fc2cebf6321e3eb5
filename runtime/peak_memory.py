"""Counts the memory of tensors, real ones or those of ``FakeTensorMode``, which hold no data."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GIB = 2**30


class PeakMemory(TorchDispatchMode):
    """Context that counts the bytes of all live tensors created inside of it, real or fake, on any device.

    Attributes:
        now: Bytes of live tensors.
        peak: Maximum of ``now``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts the storages it creates."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def freed(_: weakref.ref) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


@contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    """Context with another default type of new tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def on_gpu(count: float) -> float:
    """Bytes of GPU memory that a count needs: 2 GiB and 5 % more for the CUDA context, cuDNN and fragmentation."""
    return count * 1.05 + 2 * GIB
