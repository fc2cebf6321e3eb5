"""Runs another program with a time limit, in its own process group, and measures time and memory."""

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
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
# Variables of this process that would make another interpreter import our packages.
OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PYTHONSTARTUP", "HYDRA_FULL_ERROR")


@dataclass(frozen=True)
class ProgramExit:
    """How a program ended.

    Attributes:
        status: Exit status, negative for a signal. It does not show whether a video was written.
        seconds: Duration.
        peak_mib: Peak memory of its largest process, MiB; 0 where the system does not report it.
        timed_out: Whether it was stopped at its time limit.
    """

    status: int
    seconds: float
    peak_mib: float
    timed_out: bool


class Stopped(RuntimeError):
    """Raised if the run is stopped from outside while a program is running."""


def environment(python: Path, variables: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """Returns the environment of a system's program.

    The folder of its interpreter comes first in PATH, because a conda environment has its own ffmpeg there.
    """
    ours = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    return {
        **ours,
        "PATH": f"{python.parent}{os.pathsep}{ours.get('PATH', '')}",
        "TMPDIR": str(temporary),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # the repository is shared and may be read-only
        **variables,
    }


def run_program(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], log: Path, limit: float, stop: threading.Event
) -> ProgramExit:
    """Runs a program until it ends or exceeds its time limit. Child processes end with it.

    Args:
        command: Program and arguments.
        cwd: Working directory.
        env: Complete environment.
        log: File for its output.
        limit: Time limit in seconds.
        stop: Event that ends it early.

    Raises:
        OSError: If it cannot be started.
        Stopped: If ``stop`` was set.
    """
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,  # ffmpeg would wait for input
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
            end_group(process, force=True)  # end processes it left behind


def _end(process: subprocess.Popen[bytes]) -> int:
    """Terminates a process group, then kills it; returns the peak memory of one of its processes in bytes."""
    for force in (False, True):
        end_group(process, force)
        until = time.monotonic() + GRACE
        while time.monotonic() < until or force:
            if (peak := poll(process)) is not None:
                return peak
            time.sleep(POLL)
    raise AssertionError("a killed process always ends")
