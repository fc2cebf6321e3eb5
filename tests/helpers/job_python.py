"""``python`` inside a test's job: no GPU, and a first process that waits for SIGUSR2 where the test wants it to come.

TESTS_WAIT   a moment for each start of the job, separated by commas: step:N, validation, save, or nothing
TESTS_SIGN   a file that is made when the moment of start K has come, with K at its end
TESTS_ZERO   DeepSpeed's engine on the CPU, where this is set
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
    """Says that the moment has come, and waits until the run has noted the signal."""
    Path(os.environ["TESTS_SIGN"] + START).touch()
    end = time.monotonic() + 90
    while not signal.getsignal(signal.SIGUSR2).__self__.request:
        if time.monotonic() > end:
            raise TimeoutError("no signal came")
        time.sleep(0.05)


def on_the_cpu() -> None:
    """Puts DeepSpeed's engine on the CPU, whatever accelerator the configuration, which it suits, asks for."""
    from lightning.pytorch import Trainer

    from tests.helpers import cpu_deepspeed  # noqa: F401  (puts itself in place of the GPU's)
    from training import preflight

    preflight.check_devices = lambda config: None  # before train.py, which takes it from there
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
