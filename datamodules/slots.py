"""How batches come from loader processes: through a few blocks of shared memory that are used over and over.

PyTorch's way makes new shared memory for every tensor of every batch: its pages must be zeroed and mapped on both
sides, which takes several times as long as reading the data, and a file descriptor crosses a socket for each tensor.
Here the arrays of a batch are read into one block that both sides have mapped from the start, and leave it by one copy.

A loader with W processes that each read P batches ahead has at most the steps n .. n + P W under way while step n is
copied out, so P W + 1 blocks, used in turn by step number, are never written and read at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.windows import ClipBatch, StepReader

_ALIGNMENT = 64


class Place(NamedTuple):
    """Where a tensor lies in its block."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class Parcel(NamedTuple):
    """A batch on its way: what it holds, with places for the tensors in the block and arrays for small ones."""

    step: int
    items: dict[str, Any]
    used: int


class Block:
    """One block while it is filled: hands out tensors one after the other."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.places: dict[int, Place] = {}
        self.used = 0

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor in the block, or outside when the block is full."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self.used + size > len(self.memory):
            return torch.empty(shape, dtype=dtype)
        place = Place(self.used, shape, dtype)
        tensor = _view(self.memory, place)
        self.places[tensor.data_ptr()] = place
        self.used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return tensor


class SlotDataset(Dataset[Parcel]):
    """Reads batches into the blocks; runs in the loader processes.

    Args:
        dataset: reads a step's batch.
        blocks: (P W + 1, bytes) uint8 in shared memory.
    """

    def __init__(self, dataset: StepReader, blocks: Tensor) -> None:
        self.dataset = dataset
        self.blocks = blocks

    def __getitem__(self, step: int) -> Parcel:
        """The batch of a step, its arrays in the step's block."""
        block = Block(self.blocks[step % len(self.blocks)])
        batch = cast(dict[str, Any], self.dataset.read(step, block.allocate))
        items = {
            name: block.places.get(value.data_ptr(), value.numpy()) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        return Parcel(step, items, block.used)


def shared_blocks(batch: ClipBatch, growth: float, count: int) -> Tensor:
    """(count, bytes) uint8 of shared memory: blocks for batches up to ``growth`` times as large as the given one."""
    size = sum(value.nbytes + _ALIGNMENT for value in batch.values() if isinstance(value, Tensor))
    return torch.empty(count, -(-int(size * growth) // _ALIGNMENT) * _ALIGNMENT, dtype=torch.uint8).share_memory_()


def unpack(parcel: Parcel, blocks: Tensor, pin_memory: bool) -> ClipBatch:
    """The batch, copied out of its block by one copy, into pinned memory if asked."""
    source = blocks[parcel.step % len(blocks), : parcel.used]
    memory = torch.empty(parcel.used, dtype=torch.uint8, pin_memory=pin_memory)
    memory.copy_(source)
    batch = {name: _unpacked(value, memory) for name, value in parcel.items.items()}
    return cast(ClipBatch, batch)


def _unpacked(value: Any, memory: Tensor) -> Any:
    if isinstance(value, Place):
        return _view(memory, value)
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _view(memory: Tensor, place: Place) -> Tensor:
    size = int(np.prod(place.shape, dtype=np.int64)) * place.dtype.itemsize
    return memory[place.offset : place.offset + size].view(place.dtype).view(place.shape)
