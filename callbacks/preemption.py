"""Stops and requeues a run when the queue preempts it.

Saving requires all ranks, but a signal handler interrupts each rank at a different point. The handler therefore only
records the signal. At the end of a batch the ranks agree on it, write the checkpoint together, and the process exits
with status 75. A signal to one rank is sufficient.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from enum import IntEnum
from types import FrameType, TracebackType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import distributed

from runtime.platforms import signals_named

STOPPING = b"\nStopping after this step and saving a checkpoint; press Ctrl-C again to stop now without saving.\n"
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped before its end with its state saved; can be resumed


class StopRequest(IntEnum):
    """Action requested by a signal. If ranks differ, the largest value applies."""

    NONE = 0
    STOP = 1
    REQUEUE = 2


class Preempted(Exception):
    """Leaves a validation. Its checkpoint is written before it, and a resumed run repeats the validation."""


class StopSignals:
    """Context manager that records stop signals and restores the previous handlers at exit.

    Args:
        requeue_on: Names of signals after which the run is requeued, e.g. SIGUSR1. A
            signal that the system lacks is left out.
        stop_on: Names of signals after which the run only stops, e.g. SIGTERM, which a queue sends when it requeues by
            itself. After any signal, SIGINT (Ctrl-C) raises KeyboardInterrupt.

    Attributes:
        request: Largest request so far.
    """

    def __init__(self, requeue_on: Sequence[str], stop_on: Sequence[str]) -> None:
        requests = [(name, StopRequest.STOP) for name in stop_on] + [(name, StopRequest.REQUEUE) for name in requeue_on]
        self._requests = {number: request for name, request in requests for number in signals_named([name])}
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self.request = StopRequest.NONE

    def __enter__(self) -> StopSignals:
        """Installs the handlers if this is the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in self._requests}
            for number in signals_named(["SIGINT", "SIGHUP"]):  # ignored in a shell's background job and under nohup
                if self._before.get(number) == signal.SIG_IGN:
                    del self._before[number]
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restores the previous handlers."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:  # a requeued job ignores SIGTERM, see ``leave``
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def install(self) -> None:
        """Installs the handlers again, because Lightning replaces them when training begins."""
        if self._before:
            for number in self._before:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            if number == signal.SIGINT and self.request is not StopRequest.NONE:
                raise KeyboardInterrupt
            self.request = max(self.request, self._requests[signal.Signals(number)])
            if number == signal.SIGINT:
                os.write(2, STOPPING)  # print is not reentrant and must not be used in a signal handler
        elif number == signal.SIGTERM:  # a forked loader process: SIGTERM must end it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class Preemption(Callback):
    """Ends training after the batch in which any rank received a signal; a later checkpoint callback saves.

    Args:
        signals: Recorded signals; active while training.

    Attributes:
        agreed: Request that all ranks agreed on.
    """

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals
        self.agreed = StopRequest.NONE
        self._group: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replaces Lightning's handlers, which call collectives."""
        self.signals.install()
        if trainer.world_size > 1 and distributed.get_backend() != distributed.Backend.GLOO:
            self._group = distributed.new_group(backend="gloo")  # on the CPU, so that no step waits for the GPU

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Agrees with the other ranks, and stops without a validation, which a resumed run performs.

        After the last step there is nothing to resume: the validation follows, and the run is complete.
        """
        if self._agree(trainer) and not _complete(trainer):
            trainer.should_stop = True
            trainer.fit_loop.epoch_loop._skip_next_val = True

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Agrees with the other ranks.

        Raises:
            Preempted: If the run must stop, and has steps left.
        """
        if self._agree(trainer) and not _complete(trainer):
            raise Preempted(f"validation at step {trainer.global_step}")

    def _agree(self, trainer: Trainer) -> bool:
        request = torch.tensor(int(self.signals.request))
        if trainer.world_size > 1:
            distributed.all_reduce(request, distributed.ReduceOp.MAX, group=self._group)
        self.agreed = StopRequest(int(request))
        return self.agreed is not StopRequest.NONE


def _complete(trainer: Trainer) -> bool:
    """Whether all steps are done."""
    return 0 <= trainer.max_steps <= trainer.global_step


def leave(step: int, agreed: StopRequest, max_requeues: int) -> str:
    """Requeues the run if that was requested and it is a SLURM job. Returns a message for the user.

    Call it on one rank after everything is written, because the queue may end the job's processes immediately.

    Args:
        step: Saved step.
        agreed: Request that the ranks agreed on.
        max_requeues: Maximum number of requeues, compared with SLURM_RESTART_COUNT.
    """
    stopped = f"Stopped at step {step}, checkpoint saved"
    job, again = slurm_job(), "resume with the same command and ckpt_path=last"
    if agreed is not StopRequest.REQUEUE or job is None:
        return f"{stopped}; {again}."
    count = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if count >= max_requeues:
        return (
            f"{stopped}. Job {job} was requeued {count} times, the limit of preemption.max_requeues={max_requeues}; "
            f"{again}, or raise that limit."
        )
    for number in signals_named(["SIGTERM", "SIGCONT"]):  # SLURM sends them to the processes of a requeued job
        signal.signal(number, signal.SIG_IGN)
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        return f"{stopped}, but scontrol requeue {job} failed ({problem}); {again}."
    return f"{stopped}; job {job} is requeued ({count + 1} of at most {max_requeues} times)."


def slurm_job() -> str | None:
    """Id of this SLURM job for scontrol, ARRAY_TASK for a task of an array; None outside of SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def say(text: str) -> None:
    """Prints a line to standard error."""
    print(text, file=sys.stderr, flush=True)
