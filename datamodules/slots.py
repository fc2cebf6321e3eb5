"""Transfer of batches from loader processes through reusable blocks of shared memory.

PyTorch allocates new shared memory for every tensor of every batch. Its pages are zeroed and mapped in both processes,
which takes several times as long as reading the data, and every tensor needs a file descriptor. Here a batch is read
into one block that both processes mapped at the start. The batch's tensors are views of it. Once the last view is gone,
the block is reused. If no block is free, because batches were kept, a batch is transferred as in PyTorch.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from datamodules.clip_windows import ClipBatch, RankBatch, StepReader, micro_batches

_ALIGNMENT = 64
_SMALL = 4096  # tensors of up to this many bytes are pickled instead of put into shared memory


class Place(NamedTuple):
    """Position of a tensor in its block."""

    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype


class LoadTask(NamedTuple):
    """Request to a loader process: the step, and the index of the block to read it into, -1 for none."""

    step: int
    slot: int


class Parcel(NamedTuple):
    """Transferred micro-batches. Tensors in the block are represented by their ``Place``, small ones by arrays."""

    task: LoadTask
    items: list[dict[str, Any]]
    used: int


class MemoryBlock:
    """Allocates tensors consecutively in one block."""

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory
        self.places: dict[int, Place] = {}
        self.used = 0

    def allocate(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Returns an uninitialised tensor in the block, or outside of it if the block is full."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if self.used + size > len(self.memory):
            return torch.empty(shape, dtype=dtype)
        place = Place(self.used, shape, dtype)
        tensor = _view(self.memory, place)
        self.places[tensor.data_ptr()] = place
        self.used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return tensor


def block_bytes(like: Sequence[ClipBatch], growth: float = 1.0) -> int:
    """Bytes of a block for the micro-batches of a rank up to ``growth`` times as large as these."""
    values = (value for batch in like for value in batch.values())
    size = sum(value.nbytes + _ALIGNMENT for value in values if isinstance(value, Tensor))
    return -(-int(size * growth) // _ALIGNMENT) * _ALIGNMENT


class Slots:
    """The memory blocks and the list of free ones, in the training process.

    Args:
        like: Example micro-batches of a rank, which determine the size of a block.
        growth: Maximum size of a batch relative to ``like``.
        count: Number of blocks.
    """

    def __init__(self, like: Sequence[ClipBatch], growth: float, count: int) -> None:
        self.blocks = torch.empty(count, block_bytes(like, growth), dtype=torch.uint8).share_memory_()
        self.free = deque(range(count))

    def unpack(self, parcel: Parcel, pin_memory: bool = False) -> RankBatch:
        """Returns the batch of a parcel as views of its block, or of a copy in pinned memory."""
        memory = self._lent(parcel.task.slot, parcel.used)
        if pin_memory:
            memory = memory.pin_memory()
        batches = [{name: _unpacked(value, memory) for name, value in items.items()} for items in parcel.items]
        if pin_memory:
            batches = [
                {name: value.pin_memory() if isinstance(value, Tensor) else value for name, value in batch.items()}
                for batch in batches
            ]
        found = cast(list[ClipBatch], batches)
        return found if len(found) > 1 else found[0]

    def _lent(self, slot: int, used: int) -> Tensor:
        """Returns the used part of a block. The block becomes free once no view of this tensor exists."""
        if slot < 0:
            return torch.empty(0, dtype=torch.uint8)
        lease = self.blocks.numpy()[slot, :used]
        weakref.finalize(lease, self.free.append, slot).atexit = False
        return torch.from_numpy(lease)  # any view keeps the array alive


class Tasks(Sampler[LoadTask]):
    """Endless sampler of consecutive steps, each with a free block.

    Args:
        step: First step.
        slots: Memory blocks.
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
    """Reads batches into the blocks, in the loader processes.

    Args:
        dataset: Dataset that reads the batch of a step.
        blocks: (count, bytes) uint8 shared memory.
    """

    def __init__(self, dataset: StepReader, blocks: Tensor) -> None:
        self.dataset = dataset
        self.blocks = blocks

    def __getitem__(self, task: LoadTask) -> Parcel:
        """Reads the batch of a step into its block."""
        block = MemoryBlock(self.blocks[task.slot] if task.slot >= 0 else self.blocks[0, :0])
        batches = micro_batches(self.dataset.read(task.step, block.allocate))
        items = [{name: _packed(value, block) for name, value in batch.items()} for batch in batches]
        return Parcel(task, items, block.used)


def _packed(value: Any, block: MemoryBlock) -> Any:
    """Replaces a tensor in the block by its ``Place``, and a small tensor outside of it by an array."""
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
