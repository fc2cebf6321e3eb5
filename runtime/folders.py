"""Folders of the user: home, cache, and folders that no other user can enter.

A container or a service may run without ``HOME`` and with a user id that has no name. Its cache is then in the system's
temporary folder.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import stat
import tempfile
from pathlib import Path

from runtime.errors import UserError
from runtime.platforms import user_id

log = logging.getLogger(__name__)


class UnsafeFolder(UserError):
    """A folder that another user can change."""


def home() -> Path | None:
    """Home folder of the user; None if there is none."""
    try:
        found = Path.home()
    except (RuntimeError, KeyError):
        return None
    return found if found.is_absolute() and found.is_dir() else None


def cache_folder(name: str, create: bool = True) -> Path:
    """Folder of one of this program's caches, which need not exist yet.

    It is ``$XDG_CACHE_HOME/emotivetalk/NAME``, by default under ``~/.cache``. Without a home folder, or with one that
    cannot be written, it is in a private folder in the system's temporary folder. This is logged once.

    Args:
        name: Name of the cache.
        create: Whether that private folder is created if it is needed and missing.

    Raises:
        UnsafeFolder: If another user can change that private folder.
    """
    chosen, own = os.environ.get("XDG_CACHE_HOME", ""), home()
    base = Path(chosen) if os.path.isabs(chosen) else own / ".cache" if own else None
    if base is not None and _can_be_used(base / "emotivetalk" / name):
        return base / "emotivetalk" / name
    folder = private_temporary(create) / "cache"
    _say_once(f"{base} cannot be written" if base else "there is no home folder", folder)
    return folder / name


def private_temporary(create: bool = True) -> Path:
    """Folder ``emotivetalk-UID`` in the system's temporary folder, which only this user can enter.

    Args:
        create: Whether it is created if it is missing.

    Raises:
        UnsafeFolder: If another user made it or can change it.
        OSError: If it cannot be created.
    """
    return private_folder(Path(tempfile.gettempdir()) / f"emotivetalk-{user_id()}", create)


def private_folder(folder: Path, create: bool = True) -> Path:
    """Creates a folder that only this user can enter, or checks an existing one. Returns it.

    Args:
        folder: The folder.
        create: Whether it is created if it is missing.

    Raises:
        UnsafeFolder: If it is a link, belongs to another user, or can be entered by others.
        OSError: If it cannot be created.
    """
    if create:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    try:
        found = folder.lstat()
    except FileNotFoundError:
        if create:
            raise
        return folder
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeFolder(f"{folder}: is a link or a file, expected a folder of this user; remove it")
    if hasattr(os, "getuid"):
        if found.st_uid != os.getuid():
            raise UnsafeFolder(
                f"{folder}: belongs to the user with id {found.st_uid}, expected {os.getuid()}; set TMPDIR to a folder "
                "of your own"
            )
        if found.st_mode & 0o077:
            raise UnsafeFolder(
                f"{folder}: other users can enter it (mode {stat.S_IMODE(found.st_mode):o}, expected 700); "
                "look at what is in it, then remove it or run chmod 700"
            )
    return folder


@functools.cache
def _say_once(reason: str, folder: Path) -> None:
    log.warning("%s: caches are kept in %s; set XDG_CACHE_HOME to keep them elsewhere", reason, folder)


def _can_be_used(folder: Path) -> bool:
    """Whether a folder exists, read-only or not, or can be created."""
    try:
        existing = next(place for place in (folder, *folder.parents) if place.exists())
    except (StopIteration, OSError):
        return False
    return existing == folder or (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK))
