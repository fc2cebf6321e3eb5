"""``python`` inside a test's job: without GPU, and with a first process that waits for SIGUSR2 at a chosen moment.

TESTS_WAIT   a moment for each start of the job, separated by commas: step:N, validation, save, or empty
TESTS_SIGN   prefix of a file that is created when the moment of start K has come; K is its suffix
TESTS_ZERO   if set, DeepSpeed's engine runs on the CPU
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import time
from pathlib import Path

from tests.helpers.moments import at

START = os.environ.get("SLURM_RESTART_COUNT", "0")


def wait_for_signal() -> None:
    """Creates the file that announces the moment, and waits until the run has received the signal."""
    Path(os.environ["TESTS_SIGN"] + START).touch()
    end = time.monotonic() + 90
    while not signal.getsignal(signal.SIGUSR2).__self__.request:
        if time.monotonic() > end:
            raise TimeoutError("no signal came")
        time.sleep(0.05)


def on_the_cpu() -> None:
    """Moves DeepSpeed's engine to the CPU, so that the configuration can ask for GPUs as on a cluster."""
    from lightning.pytorch import Trainer

    from tools.nightly import cpu_deepspeed  # noqa: F401  (replaces the strategy for GPUs)
    from training import preflight

    preflight.check_devices = lambda config: None  # patched before train.py imports it
    original = Trainer.__init__

    def on_cpu(self, **settings) -> None:
        original(self, **{**settings, "accelerator": "cpu"})

    Trainer.__init__ = on_cpu


if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    module = sys.argv[0] == "-m"
    sys.path[0] = os.getcwd()
    moments = os.environ.get("TESTS_WAIT", "").split(",")
    if int(START) < len(moments) and (moment := moments[int(START)]) and os.environ.get("SLURM_PROCID") == "0":
        at(moment, wait_for_signal)
    if "TESTS_ZERO" in os.environ:
        on_the_cpu()
    if module:
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
