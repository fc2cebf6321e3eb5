"""Differences between Linux, macOS and Windows: each POSIX-only call, with a fallback for systems without it.

docs/platforms.md lists what runs on which system. Availability is checked at each call, not at import.
"""

from __future__ import annotations

import getpass
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

# Names that a configuration may contain on every platform; a signal that a platform lacks is never sent there.
HANDLED_SIGNALS = frozenset(signal.Signals.__members__) - {"SIGKILL", "SIGSTOP"} | {"SIGUSR1", "SIGUSR2"}
WINDOWS = sys.platform == "win32"
SHARED_MEMORY = Path("/dev/shm")
CPU_INFO = Path("/proc/cpuinfo")  # of Linux
CONTROL_GROUPS, OWN_CONTROL_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")  # of Linux


def usable_cores() -> int:
    """Number of cores that this process may keep busy: those it may run on, at most its container's share."""
    share = _container_share()
    return allowed_cores() if share is None else max(1, min(allowed_cores(), math.ceil(share)))


def allowed_cores() -> int:
    """Number of cores that this process may run on: all, on systems that do not restrict processes."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def computes_in_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16, as Linux lists it; elsewhere False. Others emulate it, slowly."""
    with suppress(OSError):
        flags = set(CPU_INFO.read_text(encoding="utf-8").split())
        return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    return False


def _container_share() -> float | None:
    """Cores whose time the control group of this process may use, as of ``docker --cpus``; None without a limit."""
    shares = []
    for name, folder in _control_groups():
        for place in (folder, *folder.parents):  # a limit of a parent holds as well
            with suppress(OSError, ValueError, ZeroDivisionError):
                if name == "":
                    quota, period = map(float, (place / "cpu.max").read_text().split())  # "max" is no number
                else:
                    quota = float((place / "cpu.cfs_quota_us").read_text())
                    period = float((place / "cpu.cfs_period_us").read_text())
                if quota > 0:
                    shares.append(quota / period)
            if place == CONTROL_GROUPS:
                break
    return min(shares, default=None)


def _control_groups() -> Iterator[tuple[str, Path]]:
    """Controller, empty in version 2, and folder of each control group of this process that can limit its cores."""
    with suppress(OSError):
        for line in OWN_CONTROL_GROUPS.read_text().splitlines():
            _, names, path = line.split(":", 2)
            if names == "" or "cpu" in names.split(","):
                yield names, CONTROL_GROUPS.joinpath(names, path.lstrip("/"))


def shared_memory_free() -> int | None:
    """Free bytes of the file system for shared memory; None without one, as on macOS."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None


def peak_memory() -> int | None:
    """Peak memory of this process in bytes; None if the system does not report it, as on Windows."""
    try:
        import resource
    except ImportError:
        return None
    return _peak_bytes(resource.getrusage(resource.RUSAGE_SELF))


def can_fork() -> bool:
    """Whether a process without threads may be forked. macOS has libraries that do not survive it."""
    return hasattr(os, "fork") and sys.platform != "darwin"


def limit_memory(more: int, exit_status: int) -> None:
    """Limits the memory of this process to what it has now and ``more`` bytes.

    On Linux further allocations fail. On macOS a thread ends the process with ``exit_status`` when it sees more. On
    Windows nothing is limited.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        now = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + more, now + more))
        return
    if (before := peak_memory()) is not None:
        threading.Thread(target=_watch_memory, args=(before + more, exit_status), daemon=True).start()


def _watch_memory(limit: int, exit_status: int) -> None:
    while (peak_memory() or 0) <= limit:
        time.sleep(0.02)
    os._exit(exit_status)


def limit_time(seconds: float) -> None:
    """Ends this process by SIGALRM after ``seconds``, whatever it waits for; does nothing without that signal."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)


def signals_named(names: Iterable[str]) -> list[signal.Signals]:
    """Signals of these names that exist on this system."""
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Hides Ctrl-C from processes and threads started inside; in this thread it is deferred to the end.

    Does nothing if signals cannot be blocked, as on Windows.
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
    """Numeric id of the user, or the name on systems without ids, as on Windows."""
    if hasattr(os, "getuid"):
        return str(os.getuid())
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # no variable names the user
        return "user"


def process_is_gone(process: int) -> bool:
    """Whether a process of this machine has ended, waited for or not; False if that cannot be determined."""
    if Path("/proc/self").exists():
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except FileNotFoundError:
            return True
        return stat.rpartition(")")[2].split()[0] in "ZX"
    if WINDOWS:  # os.kill would end the process, whatever the signal
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's
        return False
    return False


def open_for_reading(path: Path, links: bool = True) -> int:
    """Opens a file for reading in binary; returns a descriptor that child processes do not inherit.

    Args:
        path: File.
        links: Whether it may be a symbolic link, on systems that can tell when they open it.

    Raises:
        OSError: If it cannot be opened.
    """
    unfollowed = 0 if links else getattr(os, "O_NOFOLLOW", 0)
    return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | unfollowed)


def read_at(descriptor: int, into: memoryview, offset: int) -> int:
    """Reads bytes at an offset of a file; returns their number, 0 at the end.

    Without ``os.preadv`` this moves the file's position, so two threads must not share a descriptor.

    Raises:
        OSError: If the disk cannot be read.
    """
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [into], offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    data = os.read(descriptor, len(into))
    into[: len(data)] = data
    return len(data)


def sync(path: Path) -> None:
    """Waits until the content of a file, or the names in a folder, are on the disk.

    Raises:
        OSError: If the disk is full or cannot be written.
    """
    if WINDOWS and path.is_dir():  # Windows cannot open folders
        return
    descriptor = os.open(path, os.O_RDWR if WINDOWS else os.O_RDONLY)  # Windows needs write access to sync
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def inheritable_lock(path: Path) -> Iterator[tuple[int, ...]]:
    """Holds a lock file. Yields the descriptors with which a child process keeps the lock while it lives.

    Without ``fcntl`` the lock ends with this process, and no descriptor is yielded.

    Raises:
        BlockingIOError: If another process holds the lock.
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
    """Peak memory in bytes of a program that has ended, 0 if unknown; None while it runs."""
    if not hasattr(os, "wait4"):
        return None if process.poll() is None else 0
    ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if not ended:
        return None
    process.returncode = os.waitstatus_to_exitcode(status)
    return _peak_bytes(usage)


def end_group(process: subprocess.Popen[bytes], force: bool) -> None:
    """Ends a program that was started with ``start_new_session``, and its process group if the system has groups.

    Args:
        process: Program, waited for or not.
        force: Whether to kill it instead of terminating it.
    """
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
        elif force:
            process.kill()
        else:
            process.terminate()


def _peak_bytes(usage: Any) -> int:
    return int(usage.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)  # kibibytes except on macOS
