"""Ends a run that stands still, with one line that names the rank, the step and the clips, instead of letting it hang.

Every process notes what it is at; a thread tells it to the others through the store that torch's process group has
anyway, looks for what they tell, and ends its process when some rank has failed, died, or been at one thing for too
long. A process that waits in a collective cannot be interrupted, so its end is abrupt; what is saved stays.

The rank to blame is the one that is furthest behind: the others wait for it in the gradients' reduction.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.distributed import PrefixStore, TCPStore

from callbacks.preemption import Preempted
from configs.training import WatchdogConfig
from datamodules.windows import ClipBatch

BEAT = 1.0  # seconds between two looks
EXIT_FAULT = 1
SHOWN = 4  # clips in a message
LAST_WORDS = 60.0  # seconds a process that failed has to end by itself
# In the order in which they follow; after as many steps the rank with the earliest is behind.
JOINING, STARTING, SAVING, VALIDATING, WAITING, STEPPING, ENDING = range(7)
DOING = (
    "waiting for the other ranks", "starting", "saving", "validating", "waiting for the batch", "in the step", "ending",
)  # fmt: skip
KEY_OF = {JOINING: "join_minutes", WAITING: "step_minutes", STEPPING: "step_minutes"}


class FaultError(RuntimeError):
    """A rank failed, died or stands still; the message names it, its step and its clips."""


@dataclass(frozen=True)
class Beat:
    """What a process is at.

    Attributes:
        rank: of it.
        host: it runs on.
        process: id on that host.
        count: of its looks, by which others see that it lives.
        step: 0 before the first.
        phase: index of ``DOING``.
        seconds: it has been at it.
        clips: of the batch.
    """

    rank: int
    host: str
    process: int
    count: int = 0
    step: int = 0
    phase: int = JOINING
    seconds: float = 0.0
    clips: tuple[str, ...] = ()

    def __str__(self) -> str:
        clips = f", clips {', '.join(self.clips[:SHOWN])}{', ...' if len(self.clips) > SHOWN else ''}"
        return f"rank {self.rank} ({self.host}, process {self.process}), step {self.step}{clips if self.clips else ''}"


class Watchdog(Callback):
    """Watches this process and, through the store, the others; ``with`` it from before the ranks meet.

    Args:
        limits: when something has stood still for too long.
        folder: run directory, where the stacks of all threads go to ``stacks_rank{rank}.txt``.
        die: ends the process.
    """

    def __init__(self, limits: WatchdogConfig, folder: str | Path, die: Callable[[int], None] = os._exit) -> None:
        self.limits = limits
        self.folder = Path(folder)
        self._die = die
        self._own = Beat(0, socket.gethostname(), os.getpid())
        self._since = time.monotonic()
        self._next_clips: Callable[[], Sequence[str]] = tuple
        self._store: PrefixStore | None = None
        self._address: tuple[str, int] | None = None
        self._ranks = 1
        self._seen: dict[int, tuple[int, float]] = {}  # rank -> its last count, and when that was new
        self._beats: dict[int, Beat] = {}
        self._behind: str | None = None
        self._failed: float | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        """Begins to watch."""
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends watching."""
        self._ended.set()
        self._thread.join(10 * BEAT)

    # What the process is at

    def _at(self, phase: int, step: int, clips: Sequence[str] = ()) -> None:
        self._own = replace(self._own, phase=phase, step=step, clips=tuple(clips))
        self._since = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The ranks have met."""
        self._own = replace(self._own, rank=trainer.global_rank)
        self._ranks = trainer.world_size
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if self._ranks > 1 and environment is not None:
            self._address = (environment.main_address, environment.main_port)
        self._at(STARTING, 0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first batch is waited for."""
        dataset = getattr(trainer.train_dataloader, "dataset", None)
        if hasattr(dataset, "windows"):

            def next_clips() -> list[str]:
                windows, _ = dataset.windows(self._own.step)
                return [window.clip.key for window in windows[dataset.streams]]

            self._next_clips = next_clips
        self._at(WAITING, trainer.global_step)

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
        self._take_leave(trainer)

    def _take_leave(self, trainer: Trainer) -> None:
        """Lets the others know that this process will end, before any does."""
        self._at(ENDING, trainer.global_step)
        if self._store is not None:
            with suppress(RuntimeError):
                self._publish()
        trainer.strategy.barrier("watchdog")

    # When this process fails

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tells the other ranks, so that they do not wait for this one."""
        if isinstance(exception, Preempted):  # on all ranks
            self._take_leave(trainer)
            return
        self._failed = time.monotonic()
        if self._store is None:
            return
        self._behind = self._wait_for_fault()
        if self._behind is None:
            self._tell(f"{self._own}: {type(exception).__name__}: {str(exception).splitlines()[0]}")
            if self._own.rank == 0:
                time.sleep(3 * BEAT)  # the store ends with this process

    def fault_of_another(self) -> str | None:
        """What another rank did that made this one fail, if it was one."""
        return self._behind

    def _wait_for_fault(self) -> str | None:
        """What is known of another rank's fault after a little while: a collective fails at once when a rank dies."""
        end = time.monotonic() + 3 * BEAT
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
        """What is wrong, if anything."""
        if self._store is None and self._address is not None:
            self._connect()
        own = self._own = replace(self._own, count=self._own.count + 1, seconds=time.monotonic() - self._since)
        if own.phase == ENDING:
            return None
        if self._failed is not None:  # the main thread ends the process, if nothing holds it
            return f"{own}: does not end" if time.monotonic() - self._failed > LAST_WORDS else None
        if self._store is not None:
            try:
                self._publish()
            except RuntimeError:
                return self._no_store()
        return self._others_fault() or self._standing_still(own)

    def _publish(self) -> None:
        assert self._store is not None
        self._store.set(f"beat/{self._own.rank}", json.dumps(asdict(self._own)))

    def _no_store(self) -> str | None:
        """The store lives in rank 0."""
        return "rank 0 has ended" if self._own.rank and self._own.phase != ENDING else None

    def _connect(self) -> None:
        assert self._address is not None
        host, port = self._address
        with suppress(RuntimeError):
            store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=10))
            self._store = PrefixStore("watchdog", store)

    def _others_fault(self) -> str | None:
        """What a rank told of itself, or that one is dead."""
        if self._store is None:
            return None
        try:
            if self._store.check(["fault"]):
                return self._store.get("fault").decode()
            if self._own.rank == 0:
                dead = next((rank for rank in range(1, self._ranks) if self._is_dead(rank)), None)
                if dead is not None:
                    return self._tell(f"{self._beats[dead]}: has died while {DOING[self._beats[dead].phase]}")
        except RuntimeError:
            return self._no_store()
        return None

    def _is_dead(self, rank: int) -> bool:
        assert self._store is not None
        if not self._store.check([f"beat/{rank}"]):
            return False
        beat = self._beats[rank] = _read(self._store.get(f"beat/{rank}"))
        if beat.phase == ENDING:
            return False
        now = time.monotonic()
        if self._seen.get(rank, (-1, 0.0))[0] != beat.count:
            self._seen[rank] = (beat.count, now)
        if beat.host == self._own.host and _process_is_gone(beat.process):
            return True
        return now - self._seen[rank][1] > self.limits.dead_seconds

    def _standing_still(self, own: Beat) -> str | None:
        key = KEY_OF.get(own.phase, "other_minutes")
        minutes = getattr(self.limits, key)
        if own.seconds < 60 * minutes:
            return None
        beats = [own]
        if self._store is not None:
            names = [f"beat/{rank}" for rank in range(self._ranks) if rank != own.rank]
            with suppress(RuntimeError):
                beats += [_read(self._store.get(name)) for name in names if self._store.check([name])]
        behind = min(beats, key=lambda beat: (beat.step, beat.phase))
        if behind.phase == WAITING and not behind.clips:
            with suppress(Exception):
                if behind.rank == own.rank:
                    behind = replace(behind, clips=tuple(self._next_clips()))
        if behind.rank != own.rank:
            return None if own.seconds < 60 * minutes + 5 * BEAT else self._tell(self._stalled(behind, key, minutes))
        return self._tell(self._stalled(behind, key, minutes))

    def _stalled(self, beat: Beat, key: str, minutes: float) -> str:
        text = f"{beat}: {DOING[beat.phase]} for {beat.seconds:.0f} s (watchdog.{key}={minutes:g})"
        if beat.phase == JOINING:
            address = f"{os.environ.get('MASTER_ADDR', 'rank 0')}:{os.environ.get('MASTER_PORT', '?')}"
            text += (
                f"; they meet at {address}: see that all were started (srun), and set NCCL_SOCKET_IFNAME and "
                "GLOO_SOCKET_IFNAME to the interface that joins the machines"
            )
        return text

    def _tell(self, fault: str) -> str:
        """Puts a fault where all ranks see it; the first one counts."""
        if self._store is None:
            return fault
        try:
            return self._store.compare_set("fault", "", fault).decode()
        except RuntimeError:
            return fault

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
        time.sleep(BEAT if self._own.rank else 3 * BEAT)  # the others ask rank 0 what is wrong
        self._die(EXIT_FAULT)


def _clips(batch: ClipBatch | Any) -> Sequence[str]:
    return batch.get("key", ()) if isinstance(batch, dict) else ()


def _read(text: bytes) -> Beat:
    raw = json.loads(text)
    return Beat(**{**raw, "clips": tuple(raw["clips"])})


def _process_is_gone(process: int) -> bool:
    """Whether a process of this host has ended, waited for or not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] in "ZX"
