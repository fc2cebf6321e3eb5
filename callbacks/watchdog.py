"""Ends a run that hangs, with one line that names the rank, the step and the clips.

Every process records its current phase. A thread publishes it as a heartbeat (``heartbeat.py``), reads those of the
other ranks, and ends its process if a rank has failed, died, or exceeded the time limit of its phase. A process that
waits in a collective cannot be interrupted, so it exits abruptly. Saved checkpoints are not affected.

The rank furthest behind is reported, since the others wait for it in the reduction of the gradients.
"""

from __future__ import annotations

import faulthandler
import os
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
    BEAT,
    DOING,
    ENDING,
    JOINING,
    SAVING,
    STARTING,
    STEPPING,
    VALIDATING,
    WAITING,
    Beat,
    Board,
)
from callbacks.preemption import Preempted
from configs.training import WatchdogConfig

EXIT_FAULT = 1
EXIT_SECONDS = 60.0  # time limit for a failed process to exit by itself
LOST = ("by peer", "gloo", "NCCL", "Broken pipe", "socket")  # words in the errors of collectives that lost a rank
KEY_OF = {JOINING: "join_minutes", WAITING: "step_minutes", STEPPING: "step_minutes"}


class Watchdog(Callback):
    """Monitors this process and, by heartbeats, the others. Enter it as a context manager before the ranks connect.

    Args:
        limits: Time limits of the phases.
        folder: Run directory; the stacks of all threads are written to ``stacks_rank{rank}.txt``.
    """

    def __init__(self, limits: WatchdogConfig, folder: str | Path) -> None:
        self.limits = limits
        self.folder = Path(folder)
        # Heartbeat and start of its phase. One tuple, so that the thread reads a consistent pair.
        self._at_now = (Beat(0, socket.gethostname(), os.getpid()), time.monotonic())
        self._count = 0
        self._dataset: Any = None
        self._board: Board | None = None
        self._address: tuple[str, int, int] | None = None
        self._behind: str | None = None
        self._failed: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        """Starts the thread."""
        self._at(JOINING, 0)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops the thread."""
        self._ended.set()
        self._thread.join(10 * BEAT)

    # Recording the phase

    @property
    def _own(self) -> Beat:
        beat, since = self._at_now
        return replace(beat, count=self._count, seconds=time.monotonic() - since)

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
            if self._board is not None:
                self._board.pin(self._own)
                trainer.strategy.barrier("watchdog")
                self._board.others(self._own.rank)

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
        if self._board is not None:
            with suppress(RuntimeError):
                self._board.pin(self._own)
        trainer.strategy.barrier("watchdog")

    # Failure of this process

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Reports the failure to the other ranks, so that they do not wait for this one."""
        if isinstance(exception, Preempted):  # raised on all ranks
            self._announce_end(trainer)
            return
        self._failed = time.monotonic()
        if self._board is None:
            return
        lost = any(word in str(exception) for word in LOST)
        # A process on another host is considered dead only after ``dead_seconds`` without a heartbeat.
        self._behind = self._wait_for_fault(5 * BEAT + (self.limits.dead_seconds if lost else 0.0))
        if self._behind is None:
            words = " ".join([f"{type(exception).__name__}:", *str(exception).splitlines()[:1]])
            fault = self._board.tell(f"{self._named(self._own)}: {'lost another rank, ' if lost else ''}{words}")
            self._behind = fault if lost else None
        if self._own.rank == 0:
            time.sleep(3 * BEAT)  # the others read the fault from the store, which ends with this process

    def fault_of_another(self) -> str | None:
        """Fault of another rank that caused the failure of this one, or None."""
        return self._behind

    def _wait_for_fault(self, seconds: float) -> str | None:
        """Waits for the fault of another rank: collectives fail before the death of a rank is detected."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            fault = self._others_fault()
            if fault:
                return fault
            time.sleep(BEAT / 4)
        return None

    # The thread

    def _watch(self) -> None:
        while not self._ended.wait(BEAT):
            fault = self._look()
            if fault is not None and not self._ended.is_set():
                self._end(fault)
                return

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
        return self._others_fault() or self._standing_still(own)

    def _join(self) -> None:
        if self._board is None and self._address is not None:
            self._board = Board(*self._address, self.limits.dead_seconds)

    def _others_fault(self) -> str | None:
        """Fault reported by another rank, or the death of a rank, or None."""
        if self._board is None:
            return None
        own = self._own
        try:
            self._board.pin(own)
            fault = self._board.fault()
            if own.rank:
                self._board.read(0)
            dead = self._board.dead(own) if fault is None and own.rank == 0 else None
        except RuntimeError:  # rank 0, which owns the store, does not respond
            dead = self._board.known(0)
            if not own.rank or own.phase == ENDING or dead is None or dead.phase == ENDING:
                return None
            return self._death(dead, own)
        return fault if dead is None else self._board.tell(self._death(dead, own))

    def _death(self, dead: Beat, own: Beat) -> str:
        """Message for a dead rank. It reached at least the step of this rank, even if its heartbeat is older."""
        last = f"last seen {DOING[dead.phase]} at step {dead.step}"
        if own.step > dead.step:
            dead = replace(dead, step=own.step, phase=own.phase, clips=())
        return f"{self._named(dead)}: has died, {last}"

    def _named(self, beat: Beat) -> Beat:
        """Adds the clips of its step to a heartbeat without clips, computed from the training order."""
        if beat.clips or beat.phase == VALIDATING or not hasattr(self._dataset, "windows"):
            return beat
        streams = self._dataset.streams
        share = streams.stop - streams.start
        windows, _ = self._dataset.windows(beat.step)
        own = windows[beat.rank * share : (beat.rank + 1) * share]
        return replace(beat, clips=tuple(window.clip.key for window in own))

    def _standing_still(self, own: Beat) -> str | None:
        if own.seconds < self._limit(own):
            return None
        beats = [own]
        if self._board is not None:
            with suppress(RuntimeError):
                beats += self._board.others(own.rank)
        behind = min(beats, key=lambda beat: (beat.step, beat.phase))
        # The rank that is behind has its own limit. Past it, it reports itself; this rank does so 5 heartbeats later.
        if behind.seconds < self._limit(behind) + (0 if behind.rank == own.rank else 5 * BEAT):
            return None
        fault = f"{self._named(behind)}: {DOING[behind.phase]} for {behind.seconds:.0f} s ({self._limit_text(behind)})"
        if behind.phase == JOINING:
            address = f"{os.environ.get('MASTER_ADDR', 'rank 0')}:{os.environ.get('MASTER_PORT', '?')}"
            fault += (
                f"; they connect to {address}: check that all ranks were started (srun), and set NCCL_SOCKET_IFNAME "
                "and GLOO_SOCKET_IFNAME to the network interface between the machines"
            )
        return fault if self._board is None else self._board.tell(fault)

    def _limit(self, beat: Beat) -> float:
        return 60 * float(getattr(self.limits, KEY_OF.get(beat.phase, "other_minutes")))

    def _limit_text(self, beat: Beat) -> str:
        return f"watchdog.{KEY_OF.get(beat.phase, 'other_minutes')}={self._limit(beat) / 60:g}"

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
        time.sleep(BEAT if self._own.rank else 3 * BEAT)  # the others read the fault from the store of rank 0
        os._exit(EXIT_FAULT)


def _clips(batch: Any) -> Sequence[str]:
    return batch.get("key", ()) if isinstance(batch, dict) else ()
