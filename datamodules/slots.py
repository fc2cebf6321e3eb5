"""How batches come from loader processes: in blocks of shared memory that are lent out, and used over and over.

PyTorch's way makes new shared memory for every tensor of every batch: its pages must be zeroed and mapped on both
sides, which takes several times as long as reading the data, and a file descriptor crosses a socket for each tensor.
Here the arrays of a batch are read into one block that both sides have mapped from the start. The batch's tensors are
views of it; when the last of them is gone, the block is free for another step. Whoever keeps batches just makes blocks
scarce: a step that finds none free travels PyTorch's way.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.clip_windows import ClipBatch, StepReader

_ALIGNMENT = 64
_SMALL = 4096  # bytes up to which a tensor is pickled rather than given shared memory of its own


class Place(NamedTuple):
    """Where a tensor lies in its block."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class LoadTask(NamedTuple):
    """What a loader process is asked for: a step, and the block to read it into, -1 for none."""

    step: int
    slot: int


class Parcel(NamedTuple):
    """A batch on its way: what it holds, with places for the tensors in the block and arrays for small ones."""

    task: LoadTask
    items: dict[str, Any]
    used: int


class MemoryBlock:
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


def block_bytes(like: ClipBatch, growth: float = 1.0) -> int:
    """Bytes of a block for batches up to ``growth`` times as large as one."""
    size = sum(value.nbytes + _ALIGNMENT for value in like.values() if isinstance(value, Tensor))
    return -(-int(size * growth) // _ALIGNMENT) * _ALIGNMENT


class Slots:
    """The blocks, and which of them are free; lives in the training process.

    Args:
        like: a batch.
        growth: how many times as large as it a batch may be.
        count: blocks.
    """

    def __init__(self, like: ClipBatch, growth: float, count: int) -> None:
        self.blocks = torch.empty(count, block_bytes(like, growth), dtype=torch.uint8).share_memory_()
        self.free = deque(range(count))

    def unpack(self, parcel: Parcel, pin_memory: bool = False) -> ClipBatch:
        """The batch a parcel holds: views of its block, or of a copy in pinned memory."""
        memory = self._lent(parcel.task.slot, parcel.used)
        if pin_memory:
            memory = memory.pin_memory()
        batch = {name: _unpacked(value, memory) for name, value in parcel.items.items()}
        if pin_memory:
            batch = {name: value.pin_memory() if isinstance(value, Tensor) else value for name, value in batch.items()}
        return cast(ClipBatch, batch)

    def _lent(self, slot: int, used: int) -> Tensor:
        """The used part of a block, which is free again when nothing made from this tensor is left."""
        if slot < 0:
            return torch.empty(0, dtype=torch.uint8)
        lease = self.blocks.numpy()[slot, :used]
        weakref.finalize(lease, self.free.append, slot).atexit = False
        return torch.from_numpy(lease)  # its storage holds on to the array as long as any view of it lives


class Tasks(Sampler[LoadTask]):
    """The steps from one on for ever, each with a block that is free when it is handed out.

    Args:
        step: the first.
        slots: to take blocks from.
    """

    def __init__(self, step: int, slots: Slots) -> None:
        self.step = step
        self.slots = slots

    def __iter__(self) -> Iterator[LoadTask]:
        for step in itertools.count(self.step):
            try:
                slot = self.slots.free.popleft()
            except IndexError:
                slot = -1
            yield LoadTask(step, slot)


class SlotDataset(Dataset[Parcel]):
    """Reads batches into the blocks; runs in the loader processes.

    Args:
        dataset: reads a step's batch.
        blocks: (count, bytes) uint8 in shared memory.
    """

    def __init__(self, dataset: StepReader, blocks: Tensor) -> None:
        self.dataset = dataset
        self.blocks = blocks

    def __getitem__(self, task: LoadTask) -> Parcel:
        """The batch of a step, its arrays in the block it was given."""
        block = MemoryBlock(self.blocks[task.slot] if task.slot >= 0 else self.blocks[0, :0])
        batch = cast(dict[str, Any], self.dataset.read(task.step, block.allocate))
        return Parcel(task, {name: _packed(value, block) for name, value in batch.items()}, block.used)


def _packed(value: Any, block: MemoryBlock) -> Any:
    """A place for a tensor in the block, an array for a small one outside, anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    place = block.places.get(value.data_ptr())
    return place or (value.numpy() if value.nbytes <= _SMALL else value)


def _unpacked(value: Any, memory: Tensor) -> Any:
    if isinstance(value, Place):
        return _view(memory, value)
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _view(memory: Tensor, place: Place) -> Tensor:
    size = int(np.prod(place.shape, dtype=np.int64)) * place.dtype.itemsize
    return memory[place.offset : place.offset + size].view(place.dtype).view(place.shape)
