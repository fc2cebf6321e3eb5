"""Runs another program for a limited time, in a process group of its own, and measures what it takes."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.platforms import end_group, poll

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
        peak_mib: most memory that any one of its processes held, MiB; 0 where the system does not tell.
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
            while (peak := poll(process)) is None:
                if stop.is_set():
                    raise Stopped
                if time.monotonic() - started > limit:
                    peak = _end(process)
                    return ProgramExit(process.returncode, time.monotonic() - started, peak / 2**20, True)
                stop.wait(POLL)
            return ProgramExit(process.returncode, time.monotonic() - started, peak / 2**20, False)
        finally:
            if process.returncode is None:
                _end(process)
            end_group(process, force=True)  # what it left running


def _end(process: subprocess.Popen[bytes]) -> int:
    """Asks a program and all it started to end, then ends them; most bytes one of its processes held."""
    for force in (False, True):
        end_group(process, force)
        until = time.monotonic() + GRACE
        while time.monotonic() < until or force:
            if (peak := poll(process)) is not None:
                return peak
            time.sleep(POLL)
    raise AssertionError("a killed process always ends")
