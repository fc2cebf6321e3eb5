"""Private folders: temporary ones that no killed process leaves for ever, and lasting ones that only their user can enter."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.errors import UserError
from runtime.platforms import process_is_gone

PREFIX = "emotivetalk"
LOCK = "lock"


class PrivateFolderError(UserError):
    """A folder that other users can enter or change."""


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
        if not (process.isdecimal() and process_is_gone(int(process)) and not wrong_with(folder)):
            continue
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(blocking=False)  # a process of another container has another number, but the same lock
        except (Timeout, OSError, NotImplementedError):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def own_folder(folder: Path, remedy: str) -> Path:
    """Creates a lasting folder that only this user can enter, or checks that an existing one is such a folder.

    Args:
        folder: Folder; its parents are created with usual permissions.
        remedy: What to do if it is not.

    Raises:
        PrivateFolderError: If it is a link or a file, belongs to another user, or others can enter it.
        OSError: If it cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if wrong := wrong_with(folder):
        raise PrivateFolderError(f"{folder}: {wrong}, so its files could be another user's; {remedy}")
    return folder


def wrong_with(folder: Path) -> str:
    """Why a path is not a folder of this user alone; empty if it is. Where users have no numbers, modes say nothing."""
    found = folder.lstat() if os.path.lexists(folder) else None
    if found is None or not stat.S_ISDIR(found.st_mode):
        return "is not a folder"
    if not hasattr(os, "getuid"):
        return ""
    if found.st_uid != os.getuid():
        return f"belongs to user {found.st_uid}"
    return f"has mode {stat.S_IMODE(found.st_mode):04o}" if found.st_mode & 0o077 else ""
