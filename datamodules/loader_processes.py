"""Processes that load batches: their errors in the input arrive whole, and those of the system get a remedy."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from runtime.errors import UserError
from runtime.platforms import SHARED_MEMORY

# PyTorch's words for a loader process that was killed, and for shared memory that is full
KILLED_WORKER = re.compile(r"DataLoader worker \(pid.*?\) (is killed by signal: [A-Z][a-z ]+|exited unexpectedly)")
FULL_MEMORY = ("Bus error", "unable to allocate shared memory", "unable to write to file </torch_", "unable to mmap")


class _Failed(NamedTuple):
    """An error of a loader process. PyTorch would raise it with a traceback as its message."""

    error: UserError


class _Reporting(Dataset[Any]):
    """Dataset that returns errors in the input instead of raising them."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, item: Any) -> Any:
        try:
            return self.dataset[item]
        except UserError as error:
            return _Failed(error)


def read(batch: Any) -> Any:
    """Returns a batch of ``data_loader``.

    Raises:
        UserError: That its loader process met.
    """
    if isinstance(batch, _Failed):
        raise batch.error
    return batch


def fault_of_workers(error: BaseException | None) -> str | None:
    """What ended the loader processes, with a remedy; None for other errors.

    PyTorch notices a process that was killed in whatever the training does at that moment.

    Args:
        error: Error of a training.
    """
    while error is not None:
        text = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and any(words in text for words in FULL_MEMORY):
            return (
                f"{SHARED_MEMORY} is full: start the container with more (--ipc=host, or --shm-size=8g), or set "
                "data.workers=0"
            )
        if isinstance(error, RuntimeError) and (found := KILLED_WORKER.search(text)):
            return (
                f"a loader process was ended by the system ({found[0]}): with SIGKILL memory was short; request more, "
                "or lower data.workers (0 loads in the training process)"
            )
        error = error.__cause__ or error.__context__
    return None


def data_loader(
    dataset: Dataset[Any], steps: Sampler[Any] | range, workers: int, prefetch: int, pin_memory: bool = False
) -> DataLoader[Any]:
    """Loads ``dataset[step]`` for each step as it is, in loader processes or with 0 workers in this one.

    Args:
        dataset: Dataset whose items are batches; ``read`` raises its errors in the input.
        steps: Steps in order.
        workers: Number of loader processes.
        prefetch: Batches that each loader process prefetches.
        pin_memory: Whether batches are pinned.
    """
    return DataLoader(
        _Reporting(dataset),
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # its own, so that loaders do not advance the global generator
    )


def _as_it_is(batch: Any) -> Any:
    return batch
