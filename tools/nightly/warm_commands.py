"""Commands of this project that start without the seconds of their imports, for checks that start them many times.

A server process imports torch, Lightning and the project once. Each command is forked from it and then is a process of
its own: its session, arguments, environment, output, signals and exit status are those of a command that was typed.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tools.pipeline.command import ROOT

PRELOADED = (
    "training.fit", "preparation.tasks", "preparation.synthetic", "generation.generate_videos", "generation.web.page",
    "generation.web.serve", "evaluation.evaluate_folders", "deepspeed",
)  # fmt: skip
ON_THE_CPU = "CHAOS_ZERO_ON_CPU"  # if set in a command's environment, DeepSpeed's engine runs on the CPU


def start(typed: Sequence[str], environment: Mapping[str, str], log: Path) -> ForkServerProcess:
    """Starts ``python SCRIPT ARGUMENT...`` in the repository's root.

    Args:
        typed: Script and arguments.
        environment: The whole environment.
        log: File to which both outputs are appended.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    process = context.Process(target=_run, args=(list(typed), dict(environment), str(log)))
    process.start()
    return process


def members(session: int) -> list[int]:
    """Processes of a session that still run, by their number."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its) == session and state not in "ZX":
            found.append(int(folder.name))
    return found


def _run(typed: list[str], environment: dict[str, str], log: str) -> None:
    os.setsid()
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup's check would else hand on that it is ignored
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    faulthandler.enable()  # SIGABRT prints the stacks of all threads
    tempfile.tempdir = None
    import torch

    torch.set_num_threads(1)
    torch.seed()
    if ON_THE_CPU in environment:
        from tools.nightly import cpu_deepspeed  # noqa: F401  (replaces the strategy for GPUs)
    sys.argv = list(typed)
    sys.path[0] = str(ROOT)
    runpy.run_path(str(ROOT / typed[0]), run_name="__main__")
