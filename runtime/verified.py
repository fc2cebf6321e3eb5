"""Checks of the content of large files that one process does and all others remember.

The outcome is kept in the user's cache under the file's path, size and time of change, so a file that was not touched
is read once. On a cluster whose home is shared, one process of the whole job reads it; the others wait for its outcome.
The file's own folder may be read-only.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from runtime.files import partial_of
from runtime.folders import cache_folder

log = logging.getLogger(__name__)
CACHE = "verified"
_WHOLE = "whole"
_KNOWN: dict[str, str] = {}  # so that a process looks for an outcome once


def verified_once(path: Path, expected: str, check: Callable[[], str | None], again: bool = False) -> str | None:
    """Outcome of a check of a file's content.

    Args:
        path: File.
        expected: What is checked, e.g. the hash that the content must have.
        check: Reads the file. Returns None if it is whole, and otherwise what is wrong. Its exceptions are passed on,
            and nothing is remembered.
        again: Whether to read the file although an outcome is remembered: disks can damage a file without touching it.

    Returns:
        The outcome of ``check``, by this or an earlier process.

    Raises:
        OSError: If the file cannot be read.
    """
    place = _place(path, expected)
    if again or (known := _remembered(place)) is None:
        with _alone(place):
            known = None if again else _remembered(place)  # by another process meanwhile
            if known is None:
                known = check() or _WHOLE
                if place == _place(path, expected):  # not changed while it was read
                    _remember(place, known)
    return None if known == _WHOLE else known


def _place(path: Path, expected: str) -> Path:
    status = path.stat()
    text = "\n".join([str(path.resolve()), str(status.st_size), str(status.st_mtime_ns), expected])
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_folder(CACHE) / digest[:2] / digest


def _remembered(place: Path) -> str | None:
    if place.name not in _KNOWN:
        try:
            _KNOWN[place.name] = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
    return _KNOWN[place.name] or None


def _remember(place: Path, outcome: str) -> None:
    _KNOWN[place.name] = outcome
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(place)
        partial.write_text(outcome, encoding="utf-8")
        os.replace(partial, place)  # not synchronised with the disk: an outcome that is lost is found again
    except OSError as error:
        log.warning(
            "%s: cannot be written (%s); other processes will check the same files again", place, error.strerror
        )


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Holds the lock of an outcome, where the file system has locks."""
    lock = FileLock(place.parent.with_suffix(".lock"))  # one for many outcomes, so that locks do not pile up
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
