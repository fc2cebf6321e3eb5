"""Temporary folders that only their user can enter, and that killed programs do not leave for ever."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.platforms import process_is_gone

PREFIX = "emotivetalk"
LOCK = "lock"


@contextmanager
def temporary_folder(kind: str, parent: str | Path | None = None) -> Iterator[Path]:
    """Yields a new folder that only this user can enter, and removes it after the block.

    The folder is locked while the block runs. Folders of this kind, of this user, whose process ended without removing
    them are removed first.

    Args:
        kind: Word in the folder's name.
        parent: Folder to create it in; the system's temporary folder by default.

    Raises:
        OSError: If the folder cannot be created.
    """
    place = Path(parent or tempfile.gettempdir())
    remove_abandoned(kind, place)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{kind}-{os.getpid()}-", dir=place)).resolve()  # mode 0700
    lock = FileLock(folder / LOCK)
    lock.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)  # systems on which an open file cannot be deleted


def remove_abandoned(kind: str, parent: Path) -> None:
    """Removes the temporary folders whose process no longer runs. Folders of others, and links, are left alone."""
    mark = f"{PREFIX}-{kind}-"
    for folder in parent.glob(f"{mark}*"):
        process = folder.name.removeprefix(mark).partition("-")[0]
        if not (process.isdecimal() and process_is_gone(int(process)) and _is_ours(folder)):
            continue
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)  # a process of another container has another number, but the same lock
        except (Timeout, OSError, NotImplementedError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _is_ours(folder: Path) -> bool:
    """Whether this is a folder, not a link, that this user owns and no other user can enter."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o077)
