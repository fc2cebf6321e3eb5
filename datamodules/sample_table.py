"""Index entries of all samples as columns of an Arrow file, which is memory-mapped.

100,000 clips take 20 MB on the disk, and in memory only what is read. Processes of a node share these pages. A
``SampleEntry`` is made when it is asked for. Arrow is imported when it is used: it starts a thread.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

TABLE_NAME = "index.arrow"
LABELS = ("shard", "speaker", "split", "emotion", "view")  # text columns with few different values
_OPTIONAL = ("emotion", "view", "level")


class TableError(ValueError):
    """A table of samples that cannot be used."""


@dataclass(frozen=True)
class SampleEntry:
    """Index entry of a sample. It suffices to plan the training order and to read any member without scanning the tar.

    Attributes:
        key: Unique key of the sample.
        shard: File name of its shard.
        frames: Number of frames.
        speaker: Name of the speaker.
        split: Split at preparation: train, val or test.
        members: Member name -> (byte offset of its data in the shard, size in bytes).
        emotion: Emotion label, or None.
        level: Emotion level from 1 to 3, or None.
        view: Camera view, or None.
    """

    key: str
    shard: str
    frames: int
    speaker: str
    split: str
    members: dict[str, tuple[int, int]]
    emotion: str | None = None
    level: int | None = None
    view: str | None = None


class SampleTable(Sequence[SampleEntry]):
    """Read-only sequence of N index entries with access to their columns.

    Args:
        batch: Arrow record batch with the columns of ``write``.

    Raises:
        TableError: If it has other columns, or is damaged.

    Attributes:
        frames: (N,) int64 number of frames.
        member_name: (M,) int32 index of each member's name in ``member_names``.
        member_names: Different names of members.
        offset: (M,) int64 byte offset of each member's data in its shard.
        size: (M,) int64 size of each member, bytes.
    """

    def __init__(self, batch: Any) -> None:
        wanted = _schema()
        if not batch.schema.equals(wanted):
            raise TableError(f"has columns {', '.join(batch.schema.names)}, expected {', '.join(wanted.names)}")
        for name in wanted.names:
            if name not in _OPTIONAL and batch.column(name).null_count:
                raise TableError(f"column {name} has empty values")
        self._batch = batch
        self.frames = _numbers(batch.column("frames"), np.int64)
        members = batch.column("members")
        self._first = _numbers(members.offsets, np.int32)
        inner = members.values
        if inner.null_count or any(inner.field(name).null_count for name in ("name", "offset", "size")):
            raise TableError("column members has empty values")
        self.member_names: list[str] = inner.field("name").dictionary.to_pylist()
        self.member_name = _numbers(inner.field("name").indices, np.int32)
        self.offset = _numbers(inner.field("offset"), np.int64)
        self.size = _numbers(inner.field("size"), np.int64)
        self._labels = {name: batch.column(name) for name in LABELS}
        self._keys, self._levels = batch.column("key"), batch.column("level")

    @classmethod
    def of(cls, entries: Iterable[SampleEntry]) -> SampleTable:
        """Builds the table of entries in memory.

        Raises:
            TableError: If a number has more than 64 bits, or a name characters that UTF-8 cannot encode.
        """
        import pyarrow as pa

        if isinstance(entries, SampleTable):
            return entries
        rows = list(entries)
        members = [[(name, *place) for name, place in row.members.items()] for row in rows]
        flat = [member for of_row in members for member in of_row]
        columns = zip(*flat, strict=True) if flat else ((), (), ())
        kinds = (pa.string(), pa.int64(), pa.int64())
        try:
            names, offsets, sizes = (pa.array(list(column), kind) for column, kind in zip(columns, kinds, strict=True))
            inner = pa.StructArray.from_arrays(
                [names.dictionary_encode(), offsets, sizes], fields=list(_schema().field("members").type.value_type)
            )
            firsts = pa.array(np.cumsum([0, *map(len, members)]), pa.int32())
            arrays = {
                "key": pa.array([row.key for row in rows], pa.string()),
                "frames": pa.array([row.frames for row in rows], pa.int64()),
                "level": pa.array([row.level for row in rows], pa.int64()),
                "members": pa.ListArray.from_arrays(firsts, inner, type=_schema().field("members").type),
            }
            for name in LABELS:
                arrays[name] = pa.array([getattr(row, name) for row in rows], pa.string()).dictionary_encode()
        except (OverflowError, pa.ArrowException, UnicodeEncodeError) as error:
            raise TableError(str(error)) from error
        schema = _schema()
        return cls(pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema))

    @classmethod
    def open(cls, source: Path | bytes) -> SampleTable:
        """Opens a file memory-mapped, or the bytes of one.

        Raises:
            TableError: If it is not a table of samples.
            OSError: If the file cannot be read.
        """
        import pyarrow as pa

        file = pa.py_buffer(source) if isinstance(source, bytes) else pa.memory_map(str(source))
        try:
            reader = pa.ipc.open_file(file)
            if reader.num_record_batches != 1:
                raise TableError(f"has {reader.num_record_batches} batches, expected 1")
            batch = reader.get_batch(0)
            batch.validate(full=True)
        except (pa.ArrowException, ValueError) as error:
            raise TableError(str(error)) from error
        return cls(batch)

    def write(self, path: Path) -> None:
        """Writes the Arrow file; equal tables give equal bytes with one version of Arrow."""
        import pyarrow as pa

        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, self._batch.schema) as writer:
            writer.write_batch(self._batch)

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, place: int) -> SampleEntry: ...
    @overload
    def __getitem__(self, place: slice) -> list[SampleEntry]: ...
    def __getitem__(self, place: int | slice) -> SampleEntry | list[SampleEntry]:
        """Makes the entry of a sample, or the list of several."""
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        row = operator.index(place)
        row += len(self) if row < 0 else 0
        if not 0 <= row < len(self):
            raise IndexError(f"sample {place} of {len(self)}")
        first, last = int(self._first[row]), int(self._first[row + 1])
        members = zip(
            self.member_name[first:last].tolist(),
            self.offset[first:last].tolist(),
            self.size[first:last].tolist(),
            strict=True,
        )
        return SampleEntry(
            key=self._keys[row].as_py(),
            frames=int(self.frames[row]),
            members={self.member_names[name]: (offset, size) for name, offset, size in members},
            level=self._levels[row].as_py(),
            **{name: column[row].as_py() for name, column in self._labels.items()},
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SampleTable):
            return len(self) == len(other) and all(map(operator.eq, self, other))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {"batch": self._batch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        SampleTable.__init__(self, state["batch"])

    def members_of(self, first: int, last: int) -> tuple[slice, np.ndarray]:
        """Places of the members of samples ``first`` to ``last``, and the index of each one's sample from ``first``."""
        firsts = self._first[first : last + 1]
        return slice(int(firsts[0]), int(firsts[-1])), np.repeat(np.arange(last - first), np.diff(firsts))

    def keys_of(self, rows: np.ndarray | None = None) -> Iterator[str]:
        """Iterates over the keys of some rows, or of all."""
        yield from self._values(self._keys, rows)

    def label_codes(self, name: str) -> tuple[np.ndarray, list[str]]:
        """Values of one of ``LABELS``: (N,) index of each sample's value, -1 for None, and the different values."""
        column = self._labels[name]
        codes = _numbers(column.indices, np.int32)
        if column.null_count:
            codes = np.where(_numbers(column.is_valid().cast("int8"), np.int8), codes, np.int32(-1))
        return codes, column.dictionary.to_pylist()

    def labels(self, name: str, rows: np.ndarray | None = None) -> Iterator[str | None]:
        """Iterates over the values of one of ``LABELS`` of some rows, or of all."""
        yield from self._values(self._labels[name], rows)

    def _values(self, column: Any, rows: np.ndarray | None) -> Iterator[Any]:
        for first in range(0, len(self) if rows is None else len(rows), 4096):
            part = column.slice(first, 4096) if rows is None else column.take(_array(rows[first : first + 4096]))
            yield from part.to_pylist()

    def repeated_keys(self) -> list[str]:
        """Keys that more than one sample has."""
        if len(np.unique(self._key_hashes())) == len(self):
            return []
        import pyarrow.compute as pc  # takes 5 MiB

        counts = self._keys.value_counts()
        several = counts.filter(pc.greater(counts.field("counts"), 1))
        found: list[str] = several.field("values").to_pylist()
        return found

    def _key_hashes(self) -> np.ndarray:
        """(N,) uint64 hash of each key: its bytes times pseudo-random numbers, in steps that need little memory."""
        ends, text = self._key_bytes()
        longest = int(np.diff(ends).max(initial=0))
        factors = _pseudo_random(longest + 1)
        found = np.empty(len(self), np.uint64)
        for first in range(0, len(self), 4096):
            part = ends[first : first + 4097].astype(np.int64)
            lengths = np.diff(part)
            place = np.arange(part[0], part[-1]) - np.repeat(part[:-1], lengths)
            sums = np.cumsum((text[part[0] : part[-1]] + np.uint64(1)) * factors[place], dtype=np.uint64)
            sums = np.concatenate([np.zeros(1, np.uint64), sums])[part - part[0]]
            found[first : first + 4096] = np.diff(sums)
        return found

    def keys_have_only(self, characters: bytes, first: int, last: int) -> np.ndarray:
        """(last - first,) bool: whether each key of these rows has some characters, and none but these of ASCII.

        By NumPy, since Arrow's functions take 10 MiB when they are first used.
        """
        ends, text = self._key_bytes()
        part = ends[first : last + 1].astype(np.int64)
        others = np.ones(256, bool)
        others[list(characters)] = False
        count = np.concatenate([[0], np.cumsum(others[text[part[0] : part[-1]]])])[part - part[0]]
        return (np.diff(part) > 0) & (np.diff(count) == 0)

    def _key_bytes(self) -> tuple[np.ndarray, np.ndarray]:
        """(N + 1,) int32 places at which keys start and end, and the bytes of all keys."""
        ends = np.frombuffer(self._keys.buffers()[1], np.int32, len(self) + 1, 4 * self._keys.offset)
        return ends, np.frombuffer(self._keys.buffers()[2] or b"", np.uint8)


def _pseudo_random(count: int) -> np.ndarray:
    """(count,) uint64 by SplitMix64; importing NumPy's generators takes 4 MiB."""
    values = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)


def _numbers(column: Any, kind: type) -> np.ndarray:
    """Numbers of an Arrow array without empty values, as they are in memory; Arrow's own way imports pandas."""
    data, size = column.buffers()[1], np.dtype(kind).itemsize
    return np.frombuffer(data, kind, len(column), column.offset * size) if len(column) else np.zeros(0, kind)


def _array(rows: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def _schema() -> Any:
    import pyarrow as pa

    label = pa.dictionary(pa.int32(), pa.string())
    member = pa.struct([("name", label), ("offset", pa.int64()), ("size", pa.int64())])
    return pa.schema(
        [
            ("key", pa.string()),
            ("shard", label),
            ("frames", pa.int64()),
            ("speaker", label),
            ("split", label),
            ("emotion", label),
            ("level", pa.int64()),
            ("view", label),
            ("members", pa.list_(member)),
        ]
    )
