"""Ends a run that stands still, with one line that names the rank, the step and the clips, instead of letting it hang.

Every process notes its activity; a thread sends it to the others (``heartbeat.py``), reads what they send, and ends its
process when some rank has failed, died, or been at one thing for too long. A process that waits in a collective cannot
be interrupted, so its end is abrupt; what is saved stays.

The rank to blame is the one that is furthest behind: the others wait for it in the gradients' reduction.
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

EXIT_FAULT = 1
LAST_WORDS = 60.0  # seconds a process that failed has to end by itself
LOST = ("by peer", "gloo", "NCCL", "Broken pipe", "socket")  # in what collectives raise when another rank is gone
KEY_OF = {JOINING: "join_minutes", WAITING: "step_minutes", STEPPING: "step_minutes"}


class Watchdog(Callback):
    """Watches this process and, through the board, the others; ``with`` it from before the ranks meet.

    Args:
        limits: when something has stood still for too long.
        folder: run directory, where the stacks of all threads go to ``stacks_rank{rank}.txt``.
    """

    def __init__(self, limits: WatchdogConfig, folder: str | Path) -> None:
        self.limits = limits
        self.folder = Path(folder)
        self._at_now = (Heartbeat(0, socket.gethostname(), os.getpid()), time.monotonic())  # replaced as one
        self._count = 0
        self._dataset: Any = None
        self._store: HeartbeatStore | None = None
        self._address: tuple[str, int, int] | None = None
        self._behind: str | None = None
        self._failed: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        """Begins to watch."""
        self._at(JOINING, 0)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends watching."""
        self._ended.set()
        self._thread.join(10 * HEARTBEAT_SECONDS)

    # What the process is at

    @property
    def _own(self) -> Heartbeat:
        heartbeat, since = self._at_now
        return replace(heartbeat, count=self._count, seconds=time.monotonic() - since)

    def _at(self, phase: int, step: int, clips: Sequence[str] = ()) -> None:
        self._at_now = (replace(self._at_now[0], phase=phase, step=step, clips=tuple(clips)), time.monotonic())

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks have met."""
        self._at_now = (replace(self._at_now[0], rank=trainer.global_rank), time.monotonic())
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if trainer.world_size > 1 and environment is not None:
            self._address = (environment.main_address, environment.main_port, trainer.world_size)
        self._at(STARTING, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first batch is waited for; from here on every rank can name every other."""
        self._dataset = getattr(trainer.train_dataloader, "dataset", None)
        self._at(WAITING, trainer.global_step)
        with suppress(RuntimeError):
            self._join()
            if self._store is not None:
                self._store.publish(self._own)
                trainer.strategy.barrier("watchdog")
                self._store.others(self._own.rank)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """The batch is there."""
        self._at(STEPPING, trainer.global_step, _clips(batch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """The next batch is waited for."""
        self._at(WAITING, trainer.global_step)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint is written."""
        self._at(SAVING, trainer.global_step)

    def saved(self) -> None:
        """It is written, and the next batch is waited for."""
        self._at(WAITING, self._own.step)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A clip is validated."""
        self._at(VALIDATING, trainer.global_step, _clips(batch))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation begins."""
        self._at(VALIDATING, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The next batch is waited for, once the callbacks after this one are done."""
        self._at(WAITING, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Each rank may end now."""
        self._announce_end(trainer)

    def _announce_end(self, trainer: Trainer) -> None:
        """Lets the others know that this process will end, before any does."""
        self._at(ENDING, trainer.global_step)
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.publish(self._own)
        trainer.strategy.barrier("watchdog")

    # When this process fails

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells the other ranks, so that they do not wait for this one."""
        if isinstance(exception, Preempted):  # on all ranks
            self._announce_end(trainer)
            return
        self._failed = time.monotonic()
        if self._store is None:
            return
        lost = any(word in str(exception) for word in LOST)
        # A process on another machine counts as dead only after its silence.
        self._behind = self._wait_for_fault(5 * HEARTBEAT_SECONDS + (self.limits.dead_seconds if lost else 0.0))
        if self._behind is None:
            words = " ".join([f"{type(exception).__name__}:", *str(exception).splitlines()[:1]])
            fault = self._store.report_fault(
                f"{self._named(self._own)}: {'lost another rank, ' if lost else ''}{words}"
            )
            self._behind = fault if lost else None
        if self._own.rank == 0:
            time.sleep(3 * HEARTBEAT_SECONDS)  # the store ends with this process

    def other_ranks_fault(self) -> str | None:
        """What another rank did that made this one fail, if it was one."""
        return self._behind

    def _wait_for_fault(self, seconds: float) -> str | None:
        """What is known of another rank's fault after a while: a collective fails at once when a rank dies."""
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
            fault = self._look()
            if fault is not None and not self._ended.is_set():
                self._end(fault)
                return

    def _look(self) -> str | None:
        """What is wrong, if anything."""
        with suppress(RuntimeError):
            self._join()
        self._count += 1
        own = self._own
        if own.phase == ENDING:
            return None
        if self._failed is not None:  # the main thread ends the process, if nothing holds it
            patience = LAST_WORDS + self.limits.dead_seconds
            return f"{own}: does not end" if time.monotonic() - self._failed > patience else None
        return self._fault_of_others() or self._stalled(own)

    def _join(self) -> None:
        if self._store is None and self._address is not None:
            self._store = HeartbeatStore(*self._address, self.limits.dead_seconds)

    def _fault_of_others(self) -> str | None:
        """What a rank told of itself, or that one is dead."""
        if self._store is None:
            return None
        own = self._own
        try:
            self._store.publish(own)
            fault = self._store.fault()
            if own.rank:
                self._store.read(0)
            dead = self._store.dead(own) if fault is None and own.rank == 0 else None
        except RuntimeError:  # the board lives in rank 0
            dead = self._store.known(0)
            if not own.rank or own.phase == ENDING or dead is None or dead.phase == ENDING:
                return None
            return self._death(dead, own)
        return fault if dead is None else self._store.report_fault(self._death(dead, own))

    def _death(self, dead: Heartbeat, own: Heartbeat) -> str:
        """That a rank has died, and in which step: its last word may be old, but it came as far as this rank did."""
        last = f"last seen {DOING[dead.phase]} at step {dead.step}"
        if own.step > dead.step:
            dead = replace(dead, step=own.step, phase=own.phase, clips=())
        return f"{self._named(dead)}: has died, {last}"

    def _named(self, heartbeat: Heartbeat) -> Heartbeat:
        """A rank with the clips of its step, if it did not say them and the data's order is known."""
        if heartbeat.clips or heartbeat.phase == VALIDATING or not hasattr(self._dataset, "windows"):
            return heartbeat
        streams = self._dataset.streams
        share = streams.stop - streams.start
        windows, _ = self._dataset.windows(heartbeat.step)
        own = windows[heartbeat.rank * share : (heartbeat.rank + 1) * share]
        return replace(heartbeat, clips=tuple(window.clip.key for window in own))

    def _stalled(self, own: Heartbeat) -> str | None:
        if own.seconds < self._limit(own):
            return None
        heartbeats = [own]
        if self._store is not None:
            with suppress(RuntimeError):
                heartbeats += self._store.others(own.rank)
        behind = min(heartbeats, key=lambda heartbeat: (heartbeat.step, heartbeat.phase))
        # Another that may take longer is waited for; one that may not tells of itself, unless it cannot.
        if behind.seconds < self._limit(behind) + (0 if behind.rank == own.rank else 5 * HEARTBEAT_SECONDS):
            return None
        fault = f"{self._named(behind)}: {DOING[behind.phase]} for {behind.seconds:.0f} s ({self._limit_text(behind)})"
        if behind.phase == JOINING:
            address = f"{os.environ.get('MASTER_ADDR', 'rank 0')}:{os.environ.get('MASTER_PORT', '?')}"
            fault += (
                f"; they meet at {address}: see that all were started (srun), and set NCCL_SOCKET_IFNAME and "
                "GLOO_SOCKET_IFNAME to the interface that joins the machines"
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
            f"error: {fault}. Rank {self._own.rank} ends; its threads' stacks are in {stacks}. The same command with "
            "ckpt_path=last goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(
            HEARTBEAT_SECONDS if self._own.rank else 3 * HEARTBEAT_SECONDS
        )  # the others ask rank 0 what is wrong
        os._exit(EXIT_FAULT)


def _clips(batch: Any) -> Sequence[str]:
    return batch.get("key", ()) if isinstance(batch, dict) else ()
