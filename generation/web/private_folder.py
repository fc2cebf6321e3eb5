"""The temporary folder of a running server. Folders of servers that were killed are removed by the next one."""

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

PREFIX = "emotivetalk-page-"
LOCK = "lock"


@contextmanager
def private_folder() -> Iterator[Path]:
    """Yields a new temporary folder that only this user can read, and removes it after the block.

    The folder is locked while the block runs. Folders of this user whose process ended without removing them are
    removed first.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")).resolve()  # mode 0700
    lock = FileLock(folder / LOCK)
    lock.acquire()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)  # systems on which an open file cannot be deleted


def remove_abandoned(parent: Path) -> None:
    """Removes the folders of servers that no longer run. Folders of others, and links, are left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        process = folder.name.removeprefix(PREFIX).partition("-")[0]
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
