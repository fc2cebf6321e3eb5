"""Stops a run at the end of a batch when the queue wants its machine back, and puts it back into the queue.

A signal handler that saves runs in the middle of whatever the rank was doing, on each rank somewhere else, while saving
needs all of them. So the handler only notes the signal; at the end of a batch the ranks agree, all together write the
checkpoint as part of that batch, and the process ends with status 75. A signal to one rank is enough.
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

STOPPING = b"\nStopping after this step, which is saved; Ctrl-C again stops at once, unsaved.\n"
EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: stopped before its end, saved; the same command goes on


class StopRequest(IntEnum):
    """What signals asked for; where ranks differ, the largest counts."""

    NONE = 0
    STOP = 1
    REQUEUE = 2


class Preempted(Exception):
    """Ends a validation; its checkpoint was written before it began, and a resumed run does it again."""


class StopSignals:
    """Notes the signals of the queue while it is entered, and puts the earlier handlers back.

    Args:
        requeue_on: Names of the signals after which the run is to be queued again, e.g. SIGUSR1; a signal that the
            system lacks is left out.
        stop_on: names of those after which it only stops, e.g. SIGTERM: the queue that sends it decides for itself.
            After any signal, a SIGINT (Ctrl-C) raises KeyboardInterrupt.

    Attributes:
        request: the largest so far.
    """

    def __init__(self, requeue_on: Sequence[str], stop_on: Sequence[str]) -> None:
        requests = [(name, StopRequest.STOP) for name in stop_on] + [(name, StopRequest.REQUEUE) for name in requeue_on]
        self._requests = {number: request for name, request in requests for number in signals_named([name])}
        self._before: dict[signal.Signals, Any] = {}
        self._process = os.getpid()
        self.request = StopRequest.NONE

    def __enter__(self) -> StopSignals:
        """Installs the handlers, where this is the thread that may."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.getsignal(number) for number in self._requests}
            if self._before.get(signal.SIGINT) == signal.SIG_IGN:  # in a shell's background, where Ctrl-C is not for us
                del self._before[signal.SIGINT]
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Puts the earlier handlers back."""
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:  # a job that is queued again ignores its end
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def install(self) -> None:
        """Installs the handlers once more: Lightning puts its own in their place when training begins."""
        if self._before:
            for number in self._before:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            if number == signal.SIGINT and self.request is not StopRequest.NONE:
                raise KeyboardInterrupt
            self.request = max(self.request, self._requests[signal.Signals(number)])
            if number == signal.SIGINT:
                os.write(2, STOPPING)  # print is not to be entered twice, which a signal handler may do
        elif number == signal.SIGTERM:  # a forked loader process, which is ended in this way
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class Preemption(Callback):
    """Ends training after the batch in which any rank was signalled; a checkpoint callback after it saves.

    Args:
        signals: entered while training.

    Attributes:
        agreed: what all ranks know.
    """

    def __init__(self, signals: StopSignals) -> None:
        self.signals = signals
        self.agreed = StopRequest.NONE
        self._group: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the signals back from Lightning, whose handlers call collectives."""
        self.signals.install()
        if trainer.world_size > 1 and distributed.get_backend() != distributed.Backend.GLOO:
            self._group = distributed.new_group(backend="gloo")  # so that no step waits for the GPU

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Agrees, and stops without a validation, which a resumed run does."""
        if self._agree(trainer):
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
        """Agrees.

        Raises:
            Preempted: to leave the validation.
        """
        if self._agree(trainer):
            raise Preempted(f"validation at step {trainer.global_step}")

    def _agree(self, trainer: Trainer) -> bool:
        request = torch.tensor(int(self.signals.request))
        if trainer.world_size > 1:
            distributed.all_reduce(request, distributed.ReduceOp.MAX, group=self._group)
        self.agreed = StopRequest(int(request))
        return self.agreed is not StopRequest.NONE


def leave(step: int, agreed: StopRequest, max_requeues: int) -> str:
    """Queues the run again where that is asked for and this is a SLURM job, and says what happened.

    To be called on one rank, when everything is written: the queue may end the job's processes at once.

    Args:
        step: that was saved.
        agreed: by the ranks.
        max_requeues: times a job may come back; counted by SLURM_RESTART_COUNT.
    """
    stopped = f"Stopped at step {step}, which is saved"
    job, again = slurm_job(), "the same command with ckpt_path=last goes on"
    if agreed is not StopRequest.REQUEUE or job is None:
        return f"{stopped}; {again}."
    count = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    if count >= max_requeues:
        return (
            f"{stopped}. Job {job} came back {count} times already, preemption.max_requeues={max_requeues}: it is not "
            f"queued again; {again}, or raise that limit."
        )
    for number in signals_named(["SIGTERM", "SIGCONT"]):  # SLURM ends the requeued job's processes with them
        signal.signal(number, signal.SIG_IGN)
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        return f"{stopped}, but scontrol requeue {job} failed ({problem}); {again}."
    return f"{stopped}; job {job} is queued again, time {count + 1} of at most {max_requeues}."


def slurm_job() -> str | None:
    """The id of this SLURM job as scontrol takes it, ARRAY_TASK for a task of an array; None outside SLURM."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def say(text: str) -> None:
    """A line for whoever reads the job's log."""
    print(text, file=sys.stderr, flush=True)
