"""Ranges of remote shards: only the bytes of a batch are moved, all of them at the same time.

Every file system of fsspec that is installed is read in this way: https without more, ``s3://`` with ``pip install
s3fs``. A range cannot be compared with the SHA-256 of its shard. The names of members and the headers of arrays in it
are compared with the index.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from datamodules.remote import location
from datamodules.schema import INDEX_NAME, ShardEntry, ShardError
from runtime.errors import first_line

GAP = 1024  # bytes between two ranges that are read as one
ATTEMPTS = 4
WAIT = 0.5  # seconds before the second attempt; doubled before each further one
SILENCE = 60  # seconds without a byte after which a connection counts as broken


class ByteRange(NamedTuple):
    """Bytes from ``start`` to ``end`` of a shard."""

    shard: str
    start: int
    end: int


class RangedShards:
    """Shards of a remote root that is read by range.

    Ranges that ``fetch`` has read are kept until it is called again.

    Args:
        root: URL.
        copies: Makes the source of whole shards, for members that FFmpeg decodes: they are looked at first.
    """

    def __init__(self, root: str, copies: Callable[[], Any]) -> None:
        self.root = root
        self._copies = copies
        self._whole: Any = None
        self._held: dict[str, tuple[list[int], list[bytes]]] = {}

    def open(self, shard: ShardEntry) -> int:
        """Opens a whole copy of a shard; see ``ShardSource``."""
        if self._whole is None:
            self._whole = self._copies()
        descriptor: int = self._whole.open(shard)
        return descriptor

    def fetch(self, ranges: Iterable[ByteRange], keep: bool = False) -> None:
        """Reads ranges at the same time; near ones are read as one.

        Args:
            ranges: Ranges that will be read.
            keep: Whether ranges of earlier calls are kept.

        Raises:
            ShardError: If one cannot be read.
        """
        if not keep:
            self._held.clear()
        wanted = joined(part for part in ranges if self._find(part) is None)
        for part, content in zip(wanted, self._read(wanted), strict=True):
            starts, contents = self._held.setdefault(part.shard, ([], []))
            place = bisect.bisect(starts, part.start)
            starts.insert(place, part.start)
            contents.insert(place, content)

    def read(self, wanted: ByteRange, into: memoryview) -> None:
        """Copies a range, from what is held or else from the root.

        Raises:
            ShardError: If it cannot be read.
        """
        held = self._find(wanted)
        into[:] = self._read([wanted])[0] if held is None else held

    def _find(self, part: ByteRange) -> memoryview | None:
        starts, contents = self._held.get(part.shard, ((), ()))
        place = bisect.bisect(starts, part.start) - 1
        if place < 0 or part.end > starts[place] + len(contents[place]):
            return None
        return memoryview(contents[place])[part.start - starts[place] : part.end - starts[place]]

    def _read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Reads ranges; what fails is tried again."""
        found: dict[int, bytes] = {}
        for attempt in range(ATTEMPTS):
            left = [number for number in range(len(ranges)) if number not in found]
            if not left:
                break
            if attempt:
                time.sleep(WAIT * 2 ** (attempt - 1))
            answers = filesystem(self.root).cat_ranges(
                [location(self.root, ranges[number].shard) for number in left],
                [ranges[number].start for number in left],
                [ranges[number].end for number in left],
                on_error="return",
            )
            for number, answer in zip(left, answers, strict=True):
                if isinstance(answer, BaseException):
                    problem = self._problem(ranges[number], answer)
                    if attempt == ATTEMPTS - 1 or _is_final(answer):
                        raise problem from answer
                elif len(answer) == ranges[number].end - ranges[number].start:
                    found[number] = answer
                elif attempt == ATTEMPTS - 1:
                    raise self._problem(ranges[number], f"{len(answer)} bytes came")
        return [found[number] for number in range(len(ranges))]

    def _problem(self, part: ByteRange, why: object) -> ShardError:
        reason = f"{type(why).__name__}: {first_line(why)}" if isinstance(why, BaseException) else why
        return ShardError(
            f"{self.root}: bytes {part.start} to {part.end} of {part.shard} could not be read ({reason}); check that "
            "the shard is there and is that of the index, or set data.stage_to to copy whole shards"
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_held": {}, "_whole": None}


def joined(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """Sorts ranges and joins those that overlap or are at most ``GAP`` bytes apart."""
    found: list[ByteRange] = []
    for part in sorted(ranges):
        if found and part.shard == found[-1].shard and part.start <= found[-1].end + GAP:
            found[-1] = found[-1]._replace(end=max(found[-1].end, part.end))
        else:
            found.append(part)
    return found


def no_ranges_because(root: str) -> str | None:
    """Why a remote root cannot be read by range; None if it can. Reads one byte of its index."""
    if root.startswith("pipe:"):
        return "a command writes whole files"
    try:
        first = filesystem(root).cat_file(location(root, INDEX_NAME), start=0, end=1)
    except Exception as error:  # of any file system
        return f"{type(error).__name__}: {first_line(error)}"
    return None if len(first) == 1 else "its server ignores ranges"


def filesystem(root: str) -> Any:
    """File system of a root; fsspec keeps one for each process.

    Raises:
        ImportError: If the package of this file system is not installed.
        ValueError: If there is no file system of this name.
    """
    import fsspec  # type: ignore[import-untyped]

    protocol = root.partition("://")[0]
    options: dict[str, Any] = {}
    if protocol in ("http", "https"):
        import aiohttp

        options["client_kwargs"] = {
            "trust_env": True,  # proxies
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE),
        }
        options["headers"] = {"Accept-Encoding": "identity"}  # ranges are of the file, not of a compressed reply
    return fsspec.filesystem(protocol, **options)


def _is_final(error: BaseException) -> bool:
    """Whether another attempt would fail in the same way."""
    status = getattr(error, "status", None)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (408, 429)
    return refused or isinstance(error, FileNotFoundError | PermissionError)
