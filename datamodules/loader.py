"""Loaders: training in the resumable global order, and evaluation in fixed order.

They are not ``DataLoader`` subclasses, because Lightning would replace their samplers. The training loader has a
length, which keeps Lightning from fetching ahead: the number of fetched batches equals the number of consumed steps.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from datamodules.clip_windows import (
    Allocate,
    BatchReader,
    Clip,
    ClipBatch,
    MicroBatch,
    RankBatch,
    Window,
    micro_batches,
    new_tensor,
    training_windows,
)
from datamodules.loader_processes import data_loader, read
from datamodules.order import Order, reference_clip
from datamodules.schema import ShardError
from datamodules.slots import SlotDataset, Slots, Tasks, block_bytes


class StreamDataset(Dataset[RankBatch]):
    """Map-style dataset whose item k is this rank's part of global batch k: S / R of its S samples.

    The batch is cut into micro-batches of M consecutive samples. Rank r reads micro-batches r, r + R, ... This balances
    their lengths if samples are ordered by length. Micro-batches and windows do not depend on the number of ranks.

    Args:
        clips: Clips of the split; the order's sample numbers are indices into this list.
        order: Training order.
        reader: Reader of windows.
        batch_size: Global batch size S.
        micro_batch: M; None for S / R, where all windows of the global batch share one length.
        window: Frames per window.
        pad: Whether shorter clips are padded, see ``training_windows``.
        seed: Seed of windows and references.
        rank: Index of this rank.
        ranks: Number of ranks R.
        reference: Source of x_ref: ``clip``, the clip itself, or ``speaker``, any clip of its speaker.

    Raises:
        ValueError: If M does not divide S, or R the number of micro-batches.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        order: Order,
        reader: BatchReader,
        *,
        batch_size: int,
        micro_batch: int | None = None,
        window: int,
        pad: bool,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        reference: str = "clip",
    ) -> None:
        clips_at_once = micro_batch or 1
        if batch_size % (ranks * clips_at_once):
            unit = ranks * clips_at_once
            below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
            sizes = f"{below} or {above}" if below else f"{above}"
            count = batch_size // clips_at_once
            divisors = [divisor for divisor in range(1, count + 1) if count % divisor == 0]
            each = f" times data.micro_batch={micro_batch}" if micro_batch else ""
            raise ValueError(
                f"data.batch_size={batch_size}: expected a multiple of the number of ranks, {ranks}{each}; set it to "
                f"{sizes}, or run on {', '.join(map(str, divisors))} ranks"
            )
        self.clips = clips
        self.order = order
        self.reader = reader
        self.batch_size = batch_size
        self.window = window
        self.pad = pad
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.micro_batch = micro_batch or batch_size // ranks
        self.one_length = micro_batch is None
        self._of_speaker: dict[tuple[str, str], list[int]] = defaultdict(list)
        if reference == "speaker":
            for place, clip in enumerate(clips):
                self._of_speaker[clip.dataset, clip.entry.speaker].append(place)

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """All micro-batches of global batch ``step``, computed without reading data."""
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        draws = [self.order.draw(number) for number in numbers]
        clips = [self.clips[draw.sample] for draw in draws]
        passes = [draw.pass_ for draw in draws]
        same = self.batch_size if self.one_length else self.micro_batch
        parts = []
        for first in range(0, self.batch_size, same):
            of_part = slice(first, first + same)
            windows, length = training_windows(
                clips[of_part], numbers[of_part], passes[of_part], self.seed, self.window, self.pad
            )
            windows = [self._with_reference(each, pass_) for each, pass_ in zip(windows, passes[of_part], strict=True)]
            parts += [MicroBatch(windows[i : i + self.micro_batch], length) for i in range(0, same, self.micro_batch)]
        return parts

    def of_rank(self, step: int, rank: int) -> list[MicroBatch]:
        """The micro-batches of global batch ``step`` that a rank reads."""
        return self.micro_batches(step)[rank :: self.ranks]

    def frames_by_length(self, steps: range) -> Counter[int]:
        """Frames of the global batches ``steps`` by the length of their window, computed without reading data."""
        found: Counter[int] = Counter()
        for step in steps:
            for part in self.micro_batches(step):
                for window in part.windows:
                    found[window.frames] += window.frames
        return found

    def idle_share(self, steps: range, ranks: int) -> float:
        """Share of the ranks' time that they wait for ranks with longer windows, if a frame takes the same time."""
        spent = longest = 0
        for step in steps:
            frames = [part.frames for part in self.micro_batches(step)]
            by_rank = [sum(frames[rank::ranks]) for rank in range(ranks)]
            spent += sum(by_rank)
            longest += max(by_rank)
        return 1 - spent / (ranks * longest)

    def _with_reference(self, window: Window, pass_: int) -> Window:
        """Adds the clip of x_ref to a window if it may be another clip of the speaker."""
        clip = window.clip
        others = self._of_speaker.get((clip.dataset, clip.entry.speaker))
        if not others:
            return window
        other = others[reference_clip(self.seed, clip.key, pass_, len(others))]
        return window._replace(reference=self.clips[other])

    def __getitem__(self, step: int) -> RankBatch:
        """Reads this rank's part of global batch ``step``: one micro-batch, or a list of several.

        Raises:
            ShardError: If a shard is damaged.
        """
        return self.read(step, new_tensor)

    def read(self, step: int, allocate: Allocate) -> RankBatch:
        """Like ``__getitem__``, with tensors created by ``allocate``."""
        batches = [self.reader.read(*part, step, allocate) for part in self.of_rank(step, self.rank)]
        return batches if len(batches) > 1 else batches[0]


class StreamLoader:
    """Loader of an endless training order in virtual epochs of fixed length.

    Loader processes persist across epochs and prefetch beyond the end of an epoch. The state is the number of consumed
    steps. It is equal on all ranks, so a checkpoint can be resumed on any number of ranks.

    Args:
        dataset: Dataset of this rank.
        steps_per_epoch: Length of an epoch.
        fingerprint: name -> value of everything the order depends on. Loading a state with other values is an error.
        workers: Number of loader processes; 0 reads in this process.
        pin_memory: Whether batches are pinned; None pins if a GPU is available.
        prefetch: Batches that each loader process prefetches.
    """

    def __init__(
        self,
        dataset: StreamDataset,
        steps_per_epoch: int,
        fingerprint: dict[str, Any] | None = None,
        *,
        workers: int = 0,
        pin_memory: bool | None = None,
        prefetch: int = 2,
    ) -> None:
        self.dataset = dataset
        self.steps_per_epoch = steps_per_epoch
        self.fingerprint = fingerprint or {}
        self.step = 0
        self._workers = workers
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._prefetch = prefetch
        self._slots: Slots
        self._iterator: Any = None  # Lightning's teardown stops the processes of an attribute with this name

    def __len__(self) -> int:
        """Number of steps of a virtual epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[RankBatch]:
        """Yields the next ``steps_per_epoch`` batches."""
        for _ in range(self.steps_per_epoch):
            if self._iterator is None:
                self._slots = Slots(*self._blocks())
                self._iterator = iter(
                    data_loader(
                        SlotDataset(self.dataset, self._slots.blocks),
                        Tasks(self.step, self._slots),
                        self._workers,
                        self._prefetch,
                    )
                )
            parcel = read(next(self._iterator))
            if parcel.task.step != self.step:
                raise RuntimeError(
                    f"expected the batch of step {self.step}, got {parcel.task.step}: two loops share one StreamLoader"
                )
            self.step += 1
            yield self._slots.unpack(parcel, self._pin_memory)

    def shared_bytes(self) -> int:
        """Shared memory of all memory blocks in bytes. Reads one batch."""
        like, growth, count = self._blocks()
        return count * block_bytes(like, growth)

    def _blocks(self) -> tuple[list[ClipBatch], float, int]:
        """Micro-batches of a rank, the size of the largest batch relative to it, and the number of memory blocks.

        One block per prefetched batch, plus three that the training loop may hold.
        """
        like = micro_batches(self.dataset[self.step])
        shortest = min(part["mask"].shape[1] for part in like)
        growth = self.dataset.window / shortest  # without padding, other batches may be longer
        return like, growth, self._prefetch * self._workers + 3

    def state_dict(self) -> dict[str, Any]:
        """State for a checkpoint: the next step and the fingerprint of the order."""
        return {"step": self.step, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a saved state.

        Raises:
            ShardError: If the training order has changed; the message names each value that differs.
        """
        before = state["fingerprint"]
        changed = [
            f"  {name}: was {_shown(before.get(name))}, is {_shown(self.fingerprint.get(name))}"
            for name in sorted({*before, *self.fingerprint})
            if before.get(name) != self.fingerprint.get(name)
        ]
        if changed:
            raise ShardError(
                "ckpt_path: the run cannot be resumed exactly, because values that define the training order changed:\n"
                + "\n".join(changed)
                + "\nRestore these values, or start a new run from its weights: another run_id, no ckpt_path, init=RUN"
            )
        self.step = int(state["step"])
        self.close()

    def close(self) -> None:
        """Stops the loader processes. The next iteration starts new ones."""
        self._iterator = None


def _shown(value: Any) -> Any:
    """A value as the command line spells it."""
    return "null" if value is None else value


class EvaluationDataset(Dataset[ClipBatch]):
    """Map-style dataset of single clips in fixed order: item i of rank r of R is clip i * R + r.

    All ranks have the same length. Clips repeated for that have ``valid`` False.

    Args:
        clips: Clips of the split.
        reader: Reader of windows.
        window: Number of leading frames to read; None for complete clips.
        rank: Index r of this rank.
        ranks: Number of ranks R.
    """

    def __init__(
        self, clips: Sequence[Clip], reader: BatchReader, window: int | None, rank: int = 0, ranks: int = 1
    ) -> None:
        self.clips = clips
        self.reader = reader
        self.window = window
        self.rank = rank
        self.ranks = ranks

    def __len__(self) -> int:
        """Number of items, equal on all ranks."""
        return -(-len(self.clips) // self.ranks)

    def __getitem__(self, row: int) -> ClipBatch:
        """Reads a batch of one clip.

        Raises:
            ShardError: If a shard is damaged.
        """
        place = row * self.ranks + self.rank
        clip = self.clips[place % len(self.clips)]
        frames = clip.entry.frames if self.window is None else min(self.window, clip.entry.frames)
        window = Window(clip, place, 0, frames, portrait=-1, valid=place < len(self.clips))
        return self.reader.read([window], frames, row)


class EvaluationLoader:
    """Loader of an ``EvaluationDataset`` in order.

    Args:
        dataset: Dataset of this rank.
        workers: Number of loader processes; 0 reads in this process.
        pin_memory: Whether batches are pinned; None pins if a GPU is available.
        prefetch: Clips that each loader process prefetches.
    """

    def __init__(
        self, dataset: EvaluationDataset, *, workers: int = 0, pin_memory: bool | None = None, prefetch: int = 2
    ) -> None:
        self.dataset = dataset
        self._workers = workers
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._prefetch = prefetch

    def __len__(self) -> int:
        """Number of clips of this rank, including repeated ones."""
        return len(self.dataset)

    def shared_bytes(self) -> int:
        """Shared memory that its loader processes take, bytes; reads one clip."""
        return self._prefetch * self._workers * block_bytes([self.dataset[0]]) if self._workers else 0

    def __iter__(self) -> Iterator[ClipBatch]:
        """Iterates over batches of one clip."""
        steps = range(len(self.dataset))
        return map(read, data_loader(self.dataset, steps, self._workers, self._prefetch, self._pin_memory))
