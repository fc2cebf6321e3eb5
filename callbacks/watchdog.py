"""Ends a run that hangs, with one line that names the rank, the step and the clips.

Every process records its current phase. A thread publishes it as a heartbeat (``heartbeat.py``), reads those of the
other ranks, and ends its process if a rank has failed, died, or exceeded the time limit of its phase. A process that
waits in a collective cannot be interrupted, so it exits abruptly. Saved checkpoints are not affected.

The rank furthest behind is reported, since the others wait for it in the reduction of the gradients.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT

from callbacks.heartbeat import (
    DOING,
    ENDING,
    HEARTBEAT_SECONDS,
    JOINING,
    SAVING,
    STARTING,
    STEPPING,
    VALIDATING,
    WAITING,
    Heartbeat,
    HeartbeatStore,
)
from callbacks.preemption import Preempted
from configs.training import WatchdogConfig
from datamodules.loader import StreamDataset
from runtime.ending import BASE
from runtime.platforms import signals_named

EXIT_FAULT = 1
EXIT_SECONDS = 60.0  # time limit for a failed process to exit by itself
LOST = ("by peer", "gloo", "NCCL", "Broken pipe", "socket")  # words in the errors of collectives that lost a rank
KEY_OF = {JOINING: "join_minutes", WAITING: "step_minutes", STEPPING: "step_minutes"}


class Watchdog(Callback):
    """Monitors this process and, by heartbeats, the others. Enter it as a context manager before the ranks connect.

    Args:
        limits: Time limits of the phases.
        folder: Run directory; the stacks of all threads are written to ``stacks_rank{rank}.txt``.
        stop_on: Names of the signals that end a process which waits for the other ranks. Python handles a signal after
            this wait, and there is nothing to save yet.
    """

    def __init__(self, limits: WatchdogConfig, folder: str | Path, stop_on: Sequence[str] = ()) -> None:
        self.limits = limits
        self.folder = Path(folder)
        self._stop_on = signals_named(stop_on)
        self._signals: tuple[int, int] | None = None  # ends of a pipe into which the system writes every signal
        # Heartbeat and start of its phase. One tuple, so that the thread reads a consistent pair.
        self._at_now = (Heartbeat(0, socket.gethostname(), os.getpid()), time.monotonic())
        self._count = 0
        self._dataset: Any = None
        self._store: HeartbeatStore | None = None
        self._address: tuple[str, int, int] | None = None
        self._behind: str | None = None
        self._failed: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        """Starts the thread."""
        self._at(JOINING, 0)
        if self._stop_on and threading.current_thread() is threading.main_thread() and hasattr(os, "set_blocking"):
            self._signals = os.pipe()
            for end in self._signals:
                os.set_blocking(end, False)
            signal.set_wakeup_fd(self._signals[1], warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops the thread."""
        self._ended.set()
        self._thread.join(10 * HEARTBEAT_SECONDS)
        if self._signals is not None:
            signal.set_wakeup_fd(-1)
            for end in self._signals:
                os.close(end)

    # Recording the phase

    @property
    def _own(self) -> Heartbeat:
        heartbeat, since = self._at_now
        return replace(heartbeat, count=self._count, seconds=time.monotonic() - since)

    def _at(self, phase: int, step: int, clips: Sequence[str] = ()) -> None:
        self._at_now = (replace(self._at_now[0], phase=phase, step=step, clips=tuple(clips)), time.monotonic())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Records that the ranks are connected."""
        self._at_now = (replace(self._at_now[0], rank=trainer.global_rank), time.monotonic())
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if trainer.world_size > 1 and environment is not None:
            self._address = (environment.main_address, environment.main_port, trainer.world_size)
        self._at(STARTING, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the wait for the first batch, and exchanges heartbeats so that every rank knows all others."""
        self._dataset = getattr(trainer.train_dataloader, "dataset", None)
        self._at(WAITING, trainer.global_step)
        with suppress(RuntimeError):
            self._join()
            if self._store is not None:
                self._store.publish(self._own)
                trainer.strategy.barrier("watchdog")
                self._store.others(self._own.rank)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Records the start of the step."""
        self._at(STEPPING, trainer.global_step, _clips(batch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Records the wait for the next batch."""
        self._at(WAITING, trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Records the writing of a checkpoint."""
        self._at(SAVING, trainer.global_step)

    def saved(self) -> None:
        """Records the wait for the next batch after a checkpoint."""
        self._at(WAITING, self._own.step)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Records the validation of a clip."""
        self._at(VALIDATING, trainer.global_step, _clips(batch))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the start of a validation."""
        self._at(VALIDATING, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Records the wait for the next batch."""
        self._at(WAITING, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Announces the end of this process."""
        self._announce_end(trainer)

    def _announce_end(self, trainer: Trainer) -> None:
        """Publishes that this process will end, and waits until all ranks have done so."""
        self._at(ENDING, trainer.global_step)
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.publish(self._own)
        trainer.strategy.barrier("watchdog")

    # Failure of this process

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Reports the failure to the other ranks, so that they do not wait for this one."""
        if isinstance(exception, Preempted):  # raised on all ranks
            self._announce_end(trainer)
            return
        self._failed = time.monotonic()
        if self._store is None:
            return
        lost = any(word in str(exception) for word in LOST)
        # A process on another host is considered dead only after ``dead_seconds`` without a heartbeat.
        self._behind = self._wait_for_fault(5 * HEARTBEAT_SECONDS + (self.limits.dead_seconds if lost else 0.0))
        if self._behind is None:
            words = " ".join([f"{type(exception).__name__}:", *str(exception).splitlines()[:1]])
            fault = self._store.report_fault(
                f"{self._named(self._own)}: {'lost another rank, ' if lost else ''}{words}"
            )
            self._behind = fault if lost else None
        if self._own.rank == 0:
            time.sleep(3 * HEARTBEAT_SECONDS)  # the others read the fault from the store, which ends with this process

    def other_ranks_fault(self) -> str | None:
        """Fault of another rank that caused the failure of this one, or None."""
        return self._behind

    def _wait_for_fault(self, seconds: float) -> str | None:
        """Waits for the fault of another rank: collectives fail before the death of a rank is detected."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self._fault_of_others()
            if fault:
                return fault
            time.sleep(HEARTBEAT_SECONDS / 4)
        return None

    # The thread

    def _watch(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self._stop_joining()
            fault = self._look()
            if fault is not None and not self._ended.is_set():
                self._end(fault)
                return

    def _stop_joining(self) -> None:
        """Ends this process if it was asked to while it waits for the other ranks."""
        if self._signals is None or self._own.phase != JOINING:
            return
        try:
            received = os.read(self._signals[0], 1 << 10)
        except BlockingIOError:
            return
        if stop := next((number for number in received if number in self._stop_on), None):
            print("\nStopped while waiting for the other ranks.", file=sys.stderr, flush=True)
            os._exit(BASE + stop)

    def _look(self) -> str | None:
        """Publishes a heartbeat and returns a detected fault, or None."""
        with suppress(RuntimeError):
            self._join()
        self._count += 1
        own = self._own
        if own.phase == ENDING:
            return None
        if self._failed is not None:  # the main thread is expected to end the process
            limit = EXIT_SECONDS + self.limits.dead_seconds
            return f"{own}: does not exit after its error" if time.monotonic() - self._failed > limit else None
        return self._fault_of_others() or self._stalled(own)

    def _join(self) -> None:
        if self._store is None and self._address is not None:
            self._store = HeartbeatStore(*self._address, self.limits.dead_seconds)

    def _fault_of_others(self) -> str | None:
        """Fault reported by another rank, or the death of a rank, or None."""
        if self._store is None:
            return None
        own = self._own
        try:
            self._store.publish(own)
            fault = self._store.fault()
            if own.rank:
                self._store.read(0)
            dead = self._store.dead(own) if fault is None and own.rank == 0 else None
        except RuntimeError:  # rank 0, which owns the store, does not respond
            dead = self._store.known(0)
            if not own.rank or own.phase == ENDING or dead is None or dead.phase == ENDING:
                return None
            return self._death(dead, own)
        return fault if dead is None else self._store.report_fault(self._death(dead, own))

    def _death(self, dead: Heartbeat, own: Heartbeat) -> str:
        """Message for a dead rank. It reached at least the step of this rank, even if its heartbeat is older."""
        last = f"last seen {DOING[dead.phase]} at step {dead.step}"
        if own.step > dead.step:
            dead = replace(dead, step=own.step, phase=own.phase, clips=())
        return f"{self._named(dead)}: has died, {last}"

    def _named(self, heartbeat: Heartbeat) -> Heartbeat:
        """Adds the clips of its step to a heartbeat without clips, computed from the training order."""
        if heartbeat.clips or heartbeat.phase == VALIDATING or not isinstance(self._dataset, StreamDataset):
            return heartbeat
        own = self._dataset.of_rank(heartbeat.step, heartbeat.rank)
        return replace(heartbeat, clips=tuple(window.clip.key for part in own for window in part.windows))

    def _stalled(self, own: Heartbeat) -> str | None:
        if own.seconds < self._limit(own):
            return None
        heartbeats = [own]
        if self._store is not None:
            with suppress(RuntimeError):
                heartbeats += self._store.others(own.rank)
        behind = min(heartbeats, key=lambda heartbeat: (heartbeat.step, heartbeat.phase))
        # The rank that is behind has its own limit. Past it, it reports itself; this rank does so 5 heartbeats later.
        if behind.seconds < self._limit(behind) + (0 if behind.rank == own.rank else 5 * HEARTBEAT_SECONDS):
            return None
        fault = f"{self._named(behind)}: {DOING[behind.phase]} for {behind.seconds:.0f} s ({self._limit_text(behind)})"
        if behind.phase == JOINING:
            address = f"{os.environ.get('MASTER_ADDR', 'rank 0')}:{os.environ.get('MASTER_PORT', '?')}"
            fault += (
                f"; they connect to {address}: check that all ranks were started (srun), and set NCCL_SOCKET_IFNAME "
                "and GLOO_SOCKET_IFNAME to the network interface between the machines"
            )
        return fault if self._store is None else self._store.report_fault(fault)

    def _limit(self, heartbeat: Heartbeat) -> float:
        return 60 * float(getattr(self.limits, KEY_OF.get(heartbeat.phase, "other_minutes")))

    def _limit_text(self, heartbeat: Heartbeat) -> str:
        return f"watchdog.{KEY_OF.get(heartbeat.phase, 'other_minutes')}={self._limit(heartbeat) / 60:g}"

    def _end(self, fault: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        stacks = self.folder / f"stacks_rank{self._own.rank}.txt"
        with stacks.open("w", encoding="utf-8") as file:
            faulthandler.dump_traceback(file, all_threads=True)
        print(
            f"error: {fault}. Rank {self._own.rank} exits; the stacks of its threads are in {stacks}. Resume with the "
            "same command and ckpt_path=last",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(
            HEARTBEAT_SECONDS if self._own.rank else 3 * HEARTBEAT_SECONDS
        )  # the others read the fault from the store of rank 0
        os._exit(EXIT_FAULT)


def _clips(batch: Any) -> Sequence[str]:
    parts = batch if isinstance(batch, list) else [batch]
    return [key for part in parts if isinstance(part, dict) for key in part.get("key", ())]
