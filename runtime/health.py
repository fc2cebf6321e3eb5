"""Findings about a machine and its folders that explain failures of long jobs: memory, disk, home, proxies, locks.

These checks take milliseconds, so training makes them before the first step. ``python -m tools.doctor`` shows them all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from runtime.errors import UserError, message_of
from runtime.folders import cache_folder, home, private_temporary
from runtime.platforms import SHARED_MEMORY, shared_memory_free

GIB, MIB = 2**30, 2**20
LEAST_SHARED = 1 * GIB  # of shared memory; Docker's default is 64 MiB
LEAST_DISK, LITTLE_DISK = 1 * GIB, 20 * GIB
LEAST_FILES = 1024  # open files of a process


class State(Enum):
    """How bad a finding is. A problem stops a job sooner or later; a note may."""

    FINE = "fine"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One checked thing.

    Attributes:
        what: What was checked, in a word or two.
        state: Whether it is fine.
        text: What was found.
        remedy: What to do; empty if it is fine.
    """

    what: str
    state: State
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.text}" + (f"; {self.remedy}" if self.remedy else "")


def fine(what: str, text: str) -> Finding:
    """A finding without a remedy."""
    return Finding(what, State.FINE, text)


def note(what: str, text: str, remedy: str) -> Finding:
    """Something that may stop a job."""
    return Finding(what, State.NOTE, text, remedy)


def problem(what: str, text: str, remedy: str) -> Finding:
    """Something that stops a job."""
    return Finding(what, State.PROBLEM, text, remedy)


def machine_findings(folder: Path) -> Iterator[Finding]:
    """Checks this machine for a job that writes to ``folder``, which need not exist."""
    yield from _shared_memory()
    yield from _home()
    yield from _temporary()
    yield from _disks(folder)
    yield _lock(folder)
    yield from _open_files()
    yield from _proxies()
    yield from _queue()


def size_text(size: float) -> str:
    """Bytes in GiB or MiB."""
    return f"{size / GIB:.1f} GiB" if size >= GIB else f"{size / MIB:.0f} MiB"


def _shared_memory() -> Iterator[Finding]:
    free = shared_memory_free()
    if free is None:
        return
    text = f"{size_text(free)} free"
    if free >= LEAST_SHARED:
        yield fine(str(SHARED_MEMORY), text)
    else:
        remedy = "start the container with --ipc=host or --shm-size=8g, or set data.workers=0"
        yield note(str(SHARED_MEMORY), f"{text}; loaders with workers need more", remedy)


def _home() -> Iterator[Finding]:
    own = home()
    if own is None:
        found = os.environ.get("HOME")
        text = f"{found} is no folder" if found else "is not set, and this user has none"
        remedy = "set HOME to a folder that lasts, or XDG_CACHE_HOME and EMOTIVETALK_WEIGHTS"
        yield note("HOME", f"{text}; caches are lost with the temporary folder", remedy)
    else:
        yield fine("HOME", str(own))
    try:
        cache = cache_folder("weights", create=False).parent
        place = _existing(cache)
        if os.access(place, os.W_OK):
            yield fine("cache", str(cache))
        else:
            remedy = "set XDG_CACHE_HOME to a folder of your own"
            yield note("cache", f"{cache} cannot be written, so files are hashed again by every process", remedy)
    except (UserError, OSError) as error:
        yield problem("cache", message_of(error), "set XDG_CACHE_HOME to a folder of your own")


def _temporary() -> Iterator[Finding]:
    try:
        folder = private_temporary(create=False)
        if os.access(_existing(folder), os.W_OK):
            yield fine("temporary", str(folder))
        else:
            yield problem("temporary", f"{folder} cannot be written", "set TMPDIR to a folder of your own")
    except (UserError, OSError) as error:
        yield problem("temporary", message_of(error), "set TMPDIR to a folder of your own")


def _disks(folder: Path) -> Iterator[Finding]:
    seen: set[int] = set()
    for what, path in (("disk", folder), ("disk of TMPDIR", Path(tempfile.gettempdir()))):
        try:
            place = _existing(path)
            device, free = place.stat().st_dev, shutil.disk_usage(place).free
        except OSError as error:
            yield problem(what, message_of(error), "choose another folder")
            continue
        if device in seen:
            continue
        seen.add(device)
        text = f"{size_text(free)} free on the disk of {place}"
        if free < LEAST_DISK:
            yield problem(what, text, "free space, or choose a folder on another disk")
        elif free < LITTLE_DISK:
            yield note(what, text, "a checkpoint of preset paper has 25 GiB; free space before a long run")
        else:
            yield fine(what, text)
    place = _existing(folder)
    if not os.access(place, os.W_OK | os.X_OK):
        yield note("folder", f"{place} cannot be written", "to write to it, choose a folder of your own")


def _lock(folder: Path) -> Finding:
    """Whether the file system of a folder has locks, which keep two commands apart."""
    place = _existing(folder)
    try:
        import fcntl
    except ImportError:  # Windows
        return fine("locks", "not tried")
    if not os.access(place, os.W_OK):
        return fine("locks", "not tried")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        remedy = "mount it with locks (Lustre: -o flock), and do not start two commands on one output"
        return note("locks", f"the file system of {place} has none ({error.strerror})", remedy)
    return fine("locks", f"work in {place}")


def _open_files() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= limit < LEAST_FILES:
        yield note("open files", f"at most {limit} per process", f"run ulimit -n {LEAST_FILES * 4} first")
    else:
        yield fine("open files", f"at most {limit} per process" if limit >= 0 else "not limited")


def _proxies() -> Iterator[Finding]:
    found = {scheme: url for scheme, url in urllib.request.getproxies().items() if scheme in ("http", "https", "all")}
    if not found:
        yield fine("proxies", "none")
        return
    text = ", ".join(f"{scheme} through {without_password(url)}" for scheme, url in sorted(found.items()))
    if urllib.request.proxy_bypass("127.0.0.1") and urllib.request.proxy_bypass("localhost"):
        yield fine("proxies", text)
    else:
        remedy = "set no_proxy=localhost,127.0.0.1"
        yield note("proxies", f"{text}; also for this machine itself, so a page here would not be reached", remedy)


def without_password(url: str) -> str:
    """Address of a proxy without user and password."""
    scheme, found, rest = url.rpartition("://")
    return f"{scheme}{found}{rest.rpartition('@')[2]}"


def _queue() -> Iterator[Finding]:
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        yield fine("SLURM", f"not in a job; {'sbatch is here' if shutil.which('sbatch') else 'no sbatch here'}")
        return
    tasks, nodes = os.environ.get("SLURM_NTASKS", "1"), os.environ.get("SLURM_NNODES", "1")
    text = f"job {job}, {tasks} task(s) on {nodes} node(s)"
    if "SLURM_PROCID" not in os.environ or (tasks != "1" and "SLURM_STEP_ID" not in os.environ):
        yield note("SLURM", f"{text}, but this process is none of them", "start it with srun, as slurm/*.sbatch do")
    else:
        yield fine("SLURM", text)


def _existing(path: Path) -> Path:
    """The path, or its nearest folder that exists."""
    path = Path(os.path.abspath(path))
    return next((place for place in (path, *path.parents) if place.is_dir()), Path(path.anchor))
