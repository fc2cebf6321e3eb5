"""What differs between Linux, macOS and Windows: each POSIX-only call with what is done where it is missing.

docs/platforms.md lists what runs where. Everything here is looked up when it is called, never at import.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

# Names a configuration may hold on every platform; what a platform lacks is never sent there.
HANDLED_SIGNALS = frozenset(signal.Signals.__members__) - {"SIGKILL", "SIGSTOP"} | {"SIGUSR1", "SIGUSR2"}
WINDOWS = sys.platform == "win32"
SHARED_MEMORY = Path("/dev/shm")


def usable_cores() -> int:
    """Cores this process may use; all of the machine where the system does not restrict processes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shared_memory_free() -> int | None:
    """Free bytes of the file system for memory that processes share; None where there is none, as on macOS."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def peak_memory() -> int | None:
    """Most bytes this process ever held; None where the system does not tell, as on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return _peak_bytes(resource.getrusage(resource.RUSAGE_SELF))


def signals_named(names: Iterable[str]) -> list[signal.Signals]:
    """The signals of these names that this system has."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes and threads started inside never see Ctrl-C; here it comes afterwards.

    Does nothing where signals cannot be blocked, as on Windows.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def user_id() -> str:
    """The user's number, or name where users have none, as on Windows."""
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


def process_is_gone(process: int) -> bool:
    """Whether a process of this machine has ended, waited for or not; False where that cannot be seen."""
    if Path("/proc/self").exists():
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"
    if WINDOWS:  # where os.kill ends the process, whatever the signal
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False


def open_for_reading(path: Path) -> int:
    """A descriptor of a file's bytes, which programs started later do not inherit.

    Raises:
        OSError: when it cannot be opened.
    """
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0))


def read_at(descriptor: int, into: memoryview, offset: int) -> int:
    """Reads bytes from a place of a file; returns how many, 0 at its end.

    Without ``os.preadv`` the file's position moves, so two threads must not share a descriptor there.

    Raises:
        OSError: when the disk cannot be read.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, len(into))
    into[: len(data)] = data
    return len(data)


def sync(path: Path) -> None:
    """Waits until a file's content, or a folder's names, are on the disk.

    Raises:
        OSError: when the disk is full or cannot be written.
    """
    if WINDOWS and path.is_dir():  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)  # Windows syncs writers only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def inheritable_lock(path: Path) -> Iterator[tuple[int, ...]]:
    """Holds a lock file; yields the descriptors by which a child process keeps the lock as long as it lives.

    Without ``fcntl`` the lock ends with this process, and there are no descriptors.

    Raises:
        BlockingIOError: when another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(str(error)) from error
        try:
            yield ()
        finally:
            lock.release()
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield (descriptor,)
    finally:
        os.close(descriptor)


def poll(process: subprocess.Popen[bytes]) -> int | None:
    """Most bytes one of the processes of a program held, once it has ended; 0 where that is not known, None before."""
    if not hasattr(os, "wait4"):
        return None if process.poll() is None else 0
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not ended:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return _peak_bytes(usage)


def end_group(process: subprocess.Popen[bytes], force: bool) -> None:
    """Ends a program and all it started, which needs ``start_new_session``; only itself where there are no groups.

    Args:
        process: Program, waited for or not.
        force: Ends it at once instead of asking it to end.
    """
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
        elif force:
            process.kill()
        else:
            process.terminate()


def _peak_bytes(usage: Any) -> int:
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)  # kibibytes but on macOS
