"""Loaders: global batch k of the training order, rank by rank, resumable to the sample; and evaluation in fixed order.

Neither is a ``DataLoader`` itself, because Lightning would put its own sampler into one. The training loader has a
length, so Lightning does not fetch ahead of the step it runs, and what it counts is what was consumed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from datamodules.clip_windows import Allocate, BatchReader, Clip, ClipBatch, Window, new_tensor, training_windows
from datamodules.order import Order, reference_clip
from datamodules.slots import SlotDataset, Slots, Tasks, block_bytes


class StreamDataset(Dataset[ClipBatch]):
    """Item k is this rank's part of global batch k: of S streams, rank r of R owns S / R in a row.

    Args:
        clips: all clips of the split, in the order the training order numbers them.
        order: of their draws.
        reader: reads windows of them.
        batch_size: S.
        window: frames of a window.
        pad: see ``training_windows``.
        seed: of windows and references.
        rank: r.
        ranks: R.
        reference: x_ref is of the window's own ``clip``, or of any clip of its ``speaker``.

    Raises:
        ValueError: when R does not divide S.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        order: Order,
        reader: BatchReader,
        *,
        batch_size: int,
        window: int,
        pad: bool,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        reference: str = "clip",
    ) -> None:
        if batch_size % ranks:
            below, above = batch_size // ranks * ranks, -(-batch_size // ranks) * ranks
            sizes = f"{below} or {above}" if below else f"{above}"
            divisors = [count for count in range(1, batch_size + 1) if batch_size % count == 0]
            raise ValueError(
                f"data.batch_size is {batch_size} over all ranks, which {ranks} ranks cannot share equally: set it to "
                f"{sizes}, or run on {', '.join(map(str, divisors))} ranks"
            )
        self.clips = clips
        self.order = order
        self.reader = reader
        self.batch_size = batch_size
        self.window = window
        self.pad = pad
        self.seed = seed
        share = batch_size // ranks
        self.streams = slice(rank * share, (rank + 1) * share)
        self._of_speaker: dict[tuple[str, str], list[Clip]] = defaultdict(list)
        if reference == "speaker":
            for clip in clips:
                self._of_speaker[clip.dataset, clip.entry.speaker].append(clip)

    def windows(self, step: int) -> tuple[list[Window], int]:
        """All S windows of global batch ``step`` and their length N; nothing is read."""
        numbers = range(step * self.batch_size, (step + 1) * self.batch_size)
        draws = [self.order.draw(number) for number in numbers]
        clips = [self.clips[draw.sample] for draw in draws]
        passes = [draw.pass_ for draw in draws]
        windows, length = training_windows(clips, numbers, passes, self.seed, self.window, self.pad)
        return [self._with_reference(window, pass_) for window, pass_ in zip(windows, passes, strict=True)], length

    def _with_reference(self, window: Window, pass_: int) -> Window:
        """The window with the clip its x_ref is taken from, where that may be another."""
        clip = window.clip
        others = self._of_speaker.get((clip.dataset, clip.entry.speaker))
        if not others:
            return window
        return window._replace(reference=others[reference_clip(self.seed, clip.key, pass_, len(others))])

    def __getitem__(self, step: int) -> ClipBatch:
        """This rank's part of global batch ``step``.

        Raises:
            ShardError: when a shard is damaged.
        """
        return self.read(step, new_tensor)

    def read(self, step: int, allocate: Allocate) -> ClipBatch:
        """The same, its arrays made by ``allocate``."""
        windows, length = self.windows(step)
        return self.reader.read(windows[self.streams], length, step, allocate)


class StreamLoader:
    """Batches of an endless training order in virtual epochs of fixed length.

    Loader processes live on from epoch to epoch and read ahead across its end. The state is the number of steps
    consumed, the same on every rank, so any rank's checkpoint resumes any number of ranks.

    Args:
        dataset: this rank's.
        steps_per_epoch: length.
        fingerprint: whatever the order depends on, by name; a state with another one is refused.
        workers: loader processes; 0 reads in this process.
        pin_memory: None pins where a GPU is there.
        prefetch: batches each loader process reads ahead.
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
        self._iterator: Any = None  # Lightning stops the processes of an attribute of this name at its teardown

    def __len__(self) -> int:
        """Steps of a virtual epoch."""
        return self.steps_per_epoch

    def __iter__(self) -> Iterator[ClipBatch]:
        """The next ``steps_per_epoch`` batches from where the loader stands."""
        for _ in range(self.steps_per_epoch):
            if self._iterator is None:
                self._slots = Slots(*self._blocks())
                self._iterator = iter(
                    _data_loader(
                        SlotDataset(self.dataset, self._slots.blocks),
                        Tasks(self.step, self._slots),
                        self._workers,
                        self._prefetch,
                    )
                )
            parcel = next(self._iterator)
            if parcel.task.step != self.step:
                raise RuntimeError(
                    f"batch {parcel.task.step} came for step {self.step}: two loops share one StreamLoader"
                )
            self.step += 1
            yield self._slots.unpack(parcel, self._pin_memory)

    def shared_bytes(self) -> int:
        """Shared memory that its batches take, bytes; reads one batch."""
        like, growth, count = self._blocks()
        return count * block_bytes(like, growth)

    def _blocks(self) -> tuple[ClipBatch, float, int]:
        """A batch, how much larger others may be, and how many are under way or in the training loop's hands."""
        like = self.dataset[self.step]
        growth = self.dataset.window / like["mask"].shape[1]  # a batch without padding may be shorter than others
        return like, growth, self._prefetch * self._workers + 3

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: the next step, and what the order depends on."""
        return {"step": self.step, "fingerprint": self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where a state was taken.

        Raises:
            ValueError: when the order would be another one, naming each thing that changed.
        """
        before = state["fingerprint"]
        changed = [
            f"  {name}: was {before.get(name)}, is {self.fingerprint.get(name)}"
            for name in sorted({*before, *self.fingerprint})
            if before.get(name) != self.fingerprint.get(name)
        ]
        if changed:
            raise ValueError(
                "the checkpoint cannot be resumed exactly, its training order depends on what has changed:\n"
                + "\n".join(changed)
                + "\nRestore these, or start a new run from the checkpoint's weights."
            )
        self.step = int(state["step"])
        self.close()

    def close(self) -> None:
        """Stops the loader processes; the next iteration starts new ones."""
        self._iterator = None


class EvaluationDataset(Dataset[ClipBatch]):
    """Clips one by one in fixed order: row i of rank r of R is clip i * R + r.

    Ranks are equally long, so none waits for another: past the end clips are repeated with ``valid`` False.

    Args:
        clips: of the split.
        reader: reads windows of them.
        window: only the first ``window`` frames; None for whole clips.
        rank: r.
        ranks: R.
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
        """Rows of every rank."""
        return -(-len(self.clips) // self.ranks)

    def __getitem__(self, row: int) -> ClipBatch:
        """A batch of one clip.

        Raises:
            ShardError: when a shard is damaged.
        """
        place = row * self.ranks + self.rank
        clip = self.clips[place % len(self.clips)]
        frames = clip.entry.frames if self.window is None else min(self.window, clip.entry.frames)
        window = Window(clip, place, 0, frames, portrait=-1, valid=place < len(self.clips))
        return self.reader.read([window], frames, row)


class EvaluationLoader:
    """Goes through an ``EvaluationDataset`` in order.

    Args:
        dataset: this rank's.
        workers: loader processes; 0 reads in this process.
        pin_memory: None pins where a GPU is there.
        prefetch: clips each loader process reads ahead.
    """

    def __init__(
        self, dataset: EvaluationDataset, *, workers: int = 0, pin_memory: bool | None = None, prefetch: int = 2
    ) -> None:
        self.dataset = dataset
        self._workers = workers
        self._pin_memory = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._prefetch = prefetch

    def __len__(self) -> int:
        """Clips of this rank, repeats included."""
        return len(self.dataset)

    def shared_bytes(self) -> int:
        """Shared memory that its loader processes take, bytes; reads one clip."""
        return self._prefetch * self._workers * block_bytes(self.dataset[0]) if self._workers else 0

    def __iter__(self) -> Iterator[ClipBatch]:
        """Batches of one clip."""
        return iter(
            _data_loader(self.dataset, range(len(self.dataset)), self._workers, self._prefetch, self._pin_memory)
        )


def _data_loader(
    dataset: Dataset[Any], steps: Sampler[Any] | range, workers: int, prefetch: int, pin_memory: bool = False
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=steps,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # its own, so that starting a loader does not move the training's random numbers
    )


def _as_it_is(batch: Any) -> Any:
    return batch
