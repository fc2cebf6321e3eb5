"""The command of a step as a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from tools.pipeline.step import Step

ROOT = Path(__file__).resolve().parents[2]
CTRL_C_GRACE = 3.0  # seconds to wait for a command that got the terminal's Ctrl-C itself
GRACE = 20.0  # seconds between SIGTERM and SIGKILL
POLL = 0.05  # seconds between two looks at a command


class Command:
    """A command of a step, run in the repository's root.

    Args:
        step: Its step.
        lock: Descriptors that it inherits.
        shared: Whether other steps run at the same time, so that it may start only as many threads as it has cores.

    Attributes:
        processor_seconds: Its processor time with that of its children, when it has ended; 0 on Windows.
    """

    def __init__(self, step: Step, lock: tuple[int, ...], shared: bool) -> None:
        self.step, self.lock = step, lock
        threads = {"OMP_NUM_THREADS": str(step.cores)} if shared and step.cores is not None else {}
        self.environment = {**threads, **os.environ, "PYTHONUNBUFFERED": "1"}
        self.processor_seconds = 0.0

    def start(self, stdout: IO[bytes], stderr: IO[bytes]) -> None:
        """Starts it."""
        self.process = subprocess.Popen(
            [sys.executable, *self.step.command],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            pass_fds=self.lock,
        )

    def wait(self, seconds: float) -> int | None:
        """Waits for its end; returns its exit status, or None if it is still running."""
        deadline = time.monotonic() + seconds
        while (status := self._status()) is None and time.monotonic() < deadline:
            time.sleep(POLL)
        return status

    def end(self) -> None:
        """Ends it. It gets some time, since the terminal's Ctrl-C has reached it too, then SIGTERM, then SIGKILL."""
        for signalled, patience in ((None, CTRL_C_GRACE), (self.process.terminate, GRACE), (self.process.kill, GRACE)):
            if signalled is not None:
                signalled()
            if self.wait(patience) is not None:
                return

    def _status(self) -> int | None:
        if self.process.returncode is not None or not hasattr(os, "wait4"):
            return self.process.poll()
        number, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if number == 0:
            return None
        self.processor_seconds = used.ru_utime + used.ru_stime
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return self.process.returncode
