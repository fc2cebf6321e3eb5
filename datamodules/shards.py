"""Random access to the members of shards: a range of frames is read with a single positioned read or request.

Tar files are never scanned, because the index contains the offset of every member's data. The 512-byte tar header
before the data and the header of the array are checked, so an index that does not match its shard raises an error.

Shapes are those of ``schema.py``.
"""

from __future__ import annotations

import functools
import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from datamodules.index_checks import TAR_BLOCK
from datamodules.ranges import ByteRange, RangedShards
from datamodules.sample_table import SampleEntry
from datamodules.schema import PORTRAITS, SCHEMA_VERSION, Index, ShardError, array_layout
from datamodules.staging import DECODED, ShardSource
from runtime.errors import first_line
from runtime.json_text import parse_json
from runtime.platforms import read_at

_NPY_HEADER = 256  # bytes read for an array's header; prepare.py writes 128


class ArrayHeader(NamedTuple):
    """Header of an npy file: type, shape, and offset of the data in bytes."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


class WantedRows(NamedTuple):
    """Rows ``start`` to ``start + rows`` of an array member; other members are read whole."""

    entry: SampleEntry
    member: str
    start: int = 0
    rows: int = 0


class ShardReader:
    """Reads members of the samples of one index. It is stateless apart from a few open files.

    Args:
        index: Index, checked by ``check_index``.
        source: Source that opens the shards.
        where: Root of the shards, for messages.
    """

    OPEN_FILES = 16

    def __init__(self, index: Index, source: ShardSource, where: str) -> None:
        self.where = where
        self._dimensions = index.dimensions
        self._source = source
        self._shards = {shard.name: shard for shard in index.shards}
        self._ranged = source if isinstance(source, RangedShards) else None
        self._open: OrderedDict[str, int] = OrderedDict()

    def fetch(self, wanted: Iterable[WantedRows], keep: bool = False) -> None:
        """Reads what is asked for later, at the same time, from a root that is read by range; nothing for others.

        Args:
            wanted: Members and their rows.
            keep: Whether what earlier calls have read is kept.

        Raises:
            ShardError: If it cannot be read, or a sample has no such member.
        """
        if self._ranged is not None:
            self._ranged.fetch((part for rows in wanted for part in self._ranges(rows)), keep)

    def _ranges(self, wanted: WantedRows) -> Iterator[ByteRange]:
        """Ranges of a member: of its names, its header and its rows."""
        entry, member, start, count = wanted
        if member in DECODED:  # of a whole copy
            return
        offset, size = self._place(entry, member)
        layout = array_layout(self._dimensions, entry.frames).get(member)
        if layout is None:
            yield ByteRange(entry.shard, offset - TAR_BLOCK, offset + size)
            return
        kind, shape = layout
        row = np.dtype(kind).itemsize * int(np.prod(shape[1:], dtype=np.int64))
        first = offset + size - (shape[0] - start) * row  # rows are at the end
        yield ByteRange(entry.shard, offset - TAR_BLOCK, offset + min(_NPY_HEADER, size))
        yield ByteRange(entry.shard, first, first + count * row)

    def read_bytes(self, entry: SampleEntry, member: str) -> bytes:
        """Reads all bytes of one member.

        Raises:
            ShardError: If the sample has no such member or the shard is damaged.
        """
        offset, size = self._place(entry, member)
        block = self._pread(entry, size + TAR_BLOCK, offset - TAR_BLOCK, whole=member in DECODED)
        self._check_name(entry, member, block)
        return block[TAR_BLOCK:]

    def read_meta(self, entry: SampleEntry) -> dict[str, Any]:
        """Reads the fields of ``meta.json``.

        Raises:
            ShardError: If it is damaged, of a newer schema, or of another clip.
        """
        text = self.read_bytes(entry, "meta.json")
        try:
            meta = parse_json(text)
            key, schema, frames = meta["key"], int(meta["schema"]), tuple(map(int, meta["portrait_frames"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise ShardError(
                f"{self._name(entry, 'meta.json')}: damaged ({error}); run prepare.py task=check"
            ) from error
        if schema > SCHEMA_VERSION:
            raise ShardError(
                f"{self._name(entry, 'meta.json')}: has schema version {schema}, expected at most {SCHEMA_VERSION}; "
                "update emotivetalk"
            )
        if key != entry.key or len(frames) != PORTRAITS or not all(0 <= frame < entry.frames for frame in frames):
            raise ShardError(
                f"{self._name(entry, 'meta.json')}: key {key!r} with portraits at {frames} does not match the index "
                f"({entry.key!r}, {entry.frames} frames); run prepare.py task=check"
            )
        return meta

    def header(self, entry: SampleEntry, member: str) -> ArrayHeader:
        """Reads the header of an array member and checks it against the index.

        Raises:
            ShardError: If they differ; the message names what was found and expected.
        """
        offset, size = self._place(entry, member)
        block = self._pread(entry, TAR_BLOCK + min(_NPY_HEADER, size), offset - TAR_BLOCK)
        self._check_name(entry, member, block)
        try:
            header = parse_npy_header(block[TAR_BLOCK:])
        except ValueError as error:
            raise ShardError(
                f"{self._name(entry, member)}: not an array ({error}); run prepare.py task=check"
            ) from error
        width = header.shape[1] if member == "factors.npy" and len(header.shape) == 2 else 0
        wanted = array_layout(self._dimensions, entry.frames).get(member, ("float32", (entry.frames, width)))
        held = header.start + header.dtype.itemsize * int(np.prod(header.shape, dtype=object))
        if (header.dtype.name, header.shape) != wanted or held != size:
            raise ShardError(
                f"{self._name(entry, member)}: found {header.dtype.name} {header.shape} in {size} bytes, expected "
                f"{wanted[0]} {wanted[1]} by the index; run prepare.py task=check"
            )
        return header

    def read_rows(self, entry: SampleEntry, member: str, start: int, into: np.ndarray) -> None:
        """Reads rows ``start`` to ``start + len(into)`` of an array member without reading other rows.

        Args:
            entry: Index entry of the sample.
            member: Name of the member, e.g. ``latent.npy``.
            start: First row.
            into: (rows, ...) contiguous output array of the member's type.

        Raises:
            ShardError: If the shard is damaged or does not match its index.
            ValueError: If ``into`` does not match the member, or it has fewer rows.
        """
        header = self.header(entry, member)
        rows = len(into)
        if into.dtype != header.dtype or into.shape[1:] != header.shape[1:] or not 0 <= start <= header.shape[0] - rows:
            raise ValueError(
                f"{self._name(entry, member)}: cannot read {into.dtype} {into.shape} from row {start} of {header}"
            )
        row = header.dtype.itemsize * int(np.prod(header.shape[1:], dtype=np.int64))
        offset = entry.members[member][0] + header.start + start * row
        view = into.reshape(-1).view(np.uint8).data
        if self._ranged is not None:
            self._ranged.read(ByteRange(entry.shard, offset, offset + len(view)), view)
            return
        descriptor = self._descriptor(entry)
        while view:
            try:
                count = read_at(descriptor, view, offset)
            except OSError as error:
                raise ShardError(f"{self._name(entry, member)}: cannot be read ({error.strerror})") from error
            if not count:
                raise self._cut_short(entry, offset)
            view, offset = view[count:], offset + count

    def close(self) -> None:
        """Closes the open shards. They are reopened when needed."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": OrderedDict()}  # descriptors are invalid in another process

    def _place(self, entry: SampleEntry, member: str) -> tuple[int, int]:
        try:
            return entry.members[member]
        except KeyError:
            raise ShardError(
                f"{self._name(entry, member)}: the sample has no such member; remove its field from data.fields, or "
                "prepare the data with it (store_video for video)"
            ) from None

    def _descriptor(self, entry: SampleEntry) -> int:
        name = entry.shard
        if name not in self._open:
            while len(self._open) >= self.OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._open[name] = self._source.open(self._shards[name])
        self._open.move_to_end(name)
        return self._open[name]

    def _pread(self, entry: SampleEntry, size: int, offset: int, whole: bool = False) -> bytes:
        block = bytearray(size)
        if self._ranged is not None and not whole:
            self._ranged.read(ByteRange(entry.shard, offset, offset + size), memoryview(block))
            return bytes(block)
        try:
            count = read_at(self._descriptor(entry), memoryview(block), offset)
        except OSError as error:
            raise ShardError(f"{self.where}: {entry.shard} cannot be read ({error.strerror})") from error
        if count < size:
            raise self._cut_short(entry, offset + count)
        return bytes(block)

    def _cut_short(self, entry: SampleEntry, end: int) -> ShardError:
        return ShardError(
            f"{self.where}: {entry.shard} ends at byte {end}, expected {self._shards[entry.shard].bytes} by the index; "
            "run prepare.py task=check"
        )

    def _check_name(self, entry: SampleEntry, member: str, block: bytes) -> None:
        found = block[:100].rstrip(b"\0")
        if found != f"{entry.key}.{member}".encode()[:100]:
            raise ShardError(
                f"{self.where}: {entry.shard} contains {found.decode(errors='replace')!r} where its index expects "
                f"'{entry.key}.{member}'; shard and index do not match: run prepare.py task=check"
            )

    def _name(self, entry: SampleEntry, member: str) -> str:
        return f"{self.where}: {entry.shard}: {entry.key}.{member}"


def parse_npy(data: bytes) -> np.ndarray:
    """Parses an npy file in memory; its values are not copied.

    Raises:
        ValueError: If it is not an array in C order without pickled objects, or has another size than stated.
    """
    header = parse_npy_header(data[:_NPY_HEADER])
    count = int(np.prod(header.shape, dtype=object))
    if count < 0 or header.start + header.dtype.itemsize * count != len(data):
        raise ValueError(f"{len(data)} bytes do not hold {header.dtype} {header.shape}")
    return np.frombuffer(data, header.dtype, count, header.start).reshape(header.shape)


@functools.lru_cache(maxsize=4096)
def parse_npy_header(block: bytes) -> ArrayHeader:
    """Parses the header of an npy file.

    Raises:
        ValueError: If it is not an array in C order without pickled objects.
    """
    stream = io.BytesIO(block)
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"npy version {version}")
        shape, fortran, dtype = read(stream)
    except (Exception, MemoryError) as error:  # the header is Python's syntax, and its parser raises errors of any type
        raise ValueError(first_line(error)) from error
    if dtype.hasobject:
        raise ValueError("pickled objects")
    if fortran and len(shape) > 1:
        raise ValueError("Fortran order")
    return ArrayHeader(dtype, shape, stream.tell())
