"""Runs another program for a limited time, in a process group of its own, and measures what it takes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.05  # seconds
GRACE = 5.0  # seconds between asking a program to end and ending it
# Ours, which would lead another interpreter to our packages.
OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "HYDRA_FULL_ERROR")


@dataclass(frozen=True)
class ProgramExit:
    """How a program ended.

    Attributes:
        status: its exit status, negative for a signal; says nothing about success.
        seconds: how long it took.
        peak_mib: most memory that any one of its processes held, MiB.
        timed_out: it was stopped at its time limit.
    """

    status: int
    seconds: float
    peak_mib: float
    timed_out: bool


class Stopped(RuntimeError):
    """The run was stopped from outside while a program was at work."""


def environment(python: Path, variables: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The environment a system's program gets.

    The folder of its interpreter comes first on the search path, since a conda environment keeps its own ffmpeg there.
    """
    ours = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    return {
        **ours,
        "PATH": f"{python.parent}{os.pathsep}{ours.get('PATH', '')}",
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the repository may be read-only, and is shared
        **variables,
    }


def run_program(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, limit: float, stop: threading.Event
) -> ProgramExit:
    """Runs a program to its end or its time limit; whatever it started ends with it.

    Args:
        command: program and arguments.
        cwd: where it runs.
        env: its whole environment.
        log: gets all it prints.
        limit: seconds.
        stop: ends it early when set.

    Raises:
        OSError: if it cannot be started.
        Stopped: if ``stop`` was set.
    """
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,  # ffmpeg would wait for an answer
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if stop.is_set():
                    raise Stopped
                if time.monotonic() - started > limit:
                    status, usage = _end(process.pid)
                    process.returncode = os.waitstatus_to_exitcode(status)
                    return ProgramExit(process.returncode, time.monotonic() - started, usage.ru_maxrss / 1024, True)
                stop.wait(POLL)
            process.returncode = os.waitstatus_to_exitcode(status)
            return ProgramExit(process.returncode, time.monotonic() - started, usage.ru_maxrss / 1024, False)
        finally:
            if process.returncode is None:
                _, _ = _end(process.pid)
                process.returncode = -signal.SIGKILL
            with contextlib.suppress(OSError):  # what it left running
                os.killpg(process.pid, signal.SIGKILL)


def _end(pid: int) -> tuple[int, resource.struct_rusage]:
    """Asks a process group to end, then ends it; (wait status, resource usage) of its leader."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(pid, kind)
        until = time.monotonic() + GRACE
        while time.monotonic() < until or kind == signal.SIGKILL:
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                return status, usage
            time.sleep(POLL)
    raise AssertionError("a killed process always ends")
