"""Clips of a split, made from the columns of the indices when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from datamodules.clip_windows import Clip
from datamodules.sample_table import SampleTable


@dataclass(frozen=True)
class ClipPart:
    """Clips of one root.

    Attributes:
        samples: Samples of the root.
        rows: (N,) int64 indices of the split's samples.
        dataset: Name of the dataset.
        reader: Index of the reader of its shards.
        prefix: Put before the keys, to make them unique in a mixture.
    """

    samples: SampleTable
    rows: np.ndarray
    dataset: str
    reader: int
    prefix: str = ""


class ClipList(Sequence[Clip]):
    """Read-only list of clips, ordered by root. A million clips take the memory of a million row numbers.

    Args:
        parts: Clips of each root.

    Attributes:
        frames: (N,) int64 length of each clip.
    """

    def __init__(self, parts: Sequence[ClipPart]) -> None:
        self._parts = [part for part in parts if len(part.rows)]
        self._ends = np.cumsum([len(part.rows) for part in self._parts])
        self.frames = _joined([part.samples.frames[part.rows] for part in self._parts])

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> Clip: ...
    @overload
    def __getitem__(self, place: slice) -> list[Clip]: ...
    def __getitem__(self, place: int | slice) -> Clip | list[Clip]:
        """Makes one clip, or the list of several."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        number = operator.index(place)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"clip {place} of {len(self)}")
        of = int(np.searchsorted(self._ends, number, "right"))
        part = self._parts[of]
        entry = part.samples[int(part.rows[number - int(self._ends[of])])]  # negative: counted from the part's end
        return Clip(part.prefix + entry.key, part.dataset, entry, part.reader)

    def spread(self, count: int | None) -> ClipList:
        """``count`` clips, evenly spaced, so that they are of all roots and of many speakers; None for all."""
        if count is None or count >= len(self):
            return self
        places = np.linspace(0, len(self) - 1, count).round().astype(int)
        begins = [0, *self._ends[:-1]]
        return ClipList(
            [
                replace(part, rows=part.rows[places[(begin <= places) & (places < end)] - begin])
                for part, begin, end in zip(self._parts, begins, self._ends, strict=True)
            ]
        )

    def readers(self) -> np.ndarray:
        """(N,) int64 index of each clip's reader."""
        return _joined([np.full(len(part.rows), part.reader) for part in self._parts])

    def shard_numbers(self) -> np.ndarray:
        """(N,) int64 number of each clip's shard, counted by root and name over the shards that have clips here."""
        found, before = [], 0
        for part in self._parts:
            codes, names = part.samples.label_codes("shard")
            used, inverse = np.unique(codes[part.rows], return_inverse=True)
            ranks = np.argsort(np.argsort([names[code] for code in used]))
            found.append(ranks[inverse] + before)
            before += len(used)
        return _joined(found)

    def key_rows(self) -> Iterator[tuple[str, str, int]]:
        """Iterates over the key, shard and frames of each clip."""
        for part in self._parts:
            keys, shards = part.samples.keys_of(part.rows), part.samples.labels("shard", part.rows)
            frames = part.samples.frames[part.rows].tolist()
            for key, shard, count in zip(keys, shards, frames, strict=True):
                yield part.prefix + key, str(shard), count


def _joined(columns: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(columns) if columns else np.zeros(0, np.int64)
