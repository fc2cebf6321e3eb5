"""Locks of run directories and outputs: a second command that would write the same files is refused with their owner.

A lock is a file that the process holds with ``flock``. The system releases it when the process ends, however it ends,
so a lock file that a killed process left blocks nobody. The file names its owner. Of the ranks of one run only the
first takes a lock. On NFS the server keeps the lock, for all nodes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from runtime.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # errors of a file system without locks
LONGEST_NAME = 240  # bytes of a file's name in the name of its lock; file systems allow 255
LONGEST_COMMAND = 200  # characters of the command that a message shows
_HELD: set[int] = set()  # descriptors of the locks of this process


class LockedError(UserError):
    """A run directory or an output that another process is writing."""


@dataclass(frozen=True)
class Owner:
    """Process that holds a lock.

    Attributes:
        host: Its machine.
        process: Its number on that machine.
        started: Local time at which it took the lock, ISO 8601.
        command: Its command line.
    """

    host: str
    process: int
    started: str
    command: str

    def __str__(self) -> str:
        command = self.command if len(self.command) <= LONGEST_COMMAND else f"{self.command[:LONGEST_COMMAND]}..."
        return f"process {self.process} on {self.host} since {self.started} ({command})"


def lock_of(path: Path) -> Path:
    """Lock file of a file, next to it, or of a folder, inside."""
    if path.is_dir():
        return path / ".lock"
    name = path.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return path.with_name(f".{name}.lock")


@contextmanager
def locked(lock: Path, what: str, remedy: str, wait: bool = False) -> Iterator[None]:
    """Holds a lock file while the block runs, and removes it afterwards.

    Args:
        lock: Lock file; its folder is created, and removed if the block leaves it empty.
        what: What it protects, for the message, e.g. ``output=DIR``.
        remedy: What to do if another process holds it.
        wait: Whether to wait for the other process, after a note, instead of raising.

    Raises:
        LockedError: If another process holds the lock; the message names it.
        OSError: If the lock file cannot be written.
    """
    created = not lock.parent.exists()
    lock.parent.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        with _locked_on_windows(lock, what, remedy, wait):
            yield
        return
    descriptor = _take(lock, what, remedy, wait)
    _HELD.add(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):  # removed while it is held, so that nobody waits on a file without a name
            if _is_named(descriptor, lock):
                lock.unlink()
        _HELD.discard(descriptor)
        os.close(descriptor)
        if created:
            with suppress(OSError):  # not empty
                lock.parent.rmdir()


def owner_of(lock: Path) -> Owner | None:
    """Owner of a lock file; None if no process holds it."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        if fcntl is None:
            return _read(descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as error:
        return None if error.errno in NO_LOCKS else _read(descriptor)
    finally:
        os.close(descriptor)


def _take(lock: Path, what: str, remedy: str, wait: bool) -> int:
    """Locks the file and writes this process into it; returns its descriptor."""
    noted = False
    while True:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:  # its last owner removed the empty folder
            lock.parent.mkdir(parents=True, exist_ok=True)
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _read(descriptor)
            os.close(descriptor)
            if error.errno in NO_LOCKS:
                print(
                    f"note  {lock.parent}: this file system has no locks ({error.strerror}), so a second command that "
                    f"writes {what} would not be noticed",
                    file=sys.stderr,
                )
                return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN):
                raise OSError(error.errno, error.strerror, str(lock)) from error
            by = owner or "another process"
            if not wait:
                raise LockedError(f"{what}: is being written by {by}; {remedy}") from None
            if not noted:
                print(f"note  {what}: waiting for {by}", file=sys.stderr, flush=True)
            noted = True
            time.sleep(0.1)
            continue
        if _is_named(descriptor, lock):  # else its owner removed it between the two calls
            break
        os.close(descriptor)
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(_this_process())).encode(), 0)
    except OSError as error:  # a full disk: the lock holds without a name
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            os.close(descriptor)
            raise
    return descriptor


@contextmanager
def _locked_on_windows(lock: Path, what: str, remedy: str, wait: bool) -> Iterator[None]:
    try:
        with FileLock(lock).acquire(timeout=-1 if wait else 0):
            yield
    except Timeout:
        raise LockedError(f"{what}: is being written by another process; {remedy}") from None


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)


def _this_process() -> Owner:
    now = datetime.now().isoformat(sep=" ", timespec="seconds")
    command = " ".join(shlex.join(["python", *sys.orig_argv[1:]]).split())  # one line
    return Owner(socket.gethostname(), os.getpid(), now, command)


def _read(descriptor: int) -> Owner | None:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            file.seek(0)
            return Owner(**json.loads(file.read(1 << 16)))
    except (OSError, ValueError, TypeError):
        return None


def _leave_to_parent() -> None:
    """A forked worker keeps no lock of its parent, which may be killed before it."""
    for descriptor in _HELD:
        with suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
