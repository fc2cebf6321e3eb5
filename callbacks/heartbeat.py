"""What the ranks of a run tell each other beside their collectives, through the store of torch's process group."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from runtime.platforms import process_is_gone

HEARTBEAT_SECONDS = 1.0  # seconds between two looks
SHOWN = 4  # clips in a message
# In the order in which they follow; after as many steps the rank with the earliest is behind.
JOINING, STARTING, SAVING, VALIDATING, WAITING, STEPPING, ENDING = range(7)
DOING = (
    "waiting for the other ranks", "starting", "saving", "validating", "waiting for the batch", "in the step", "ending",
)  # fmt: skip


@dataclass(frozen=True)
class Heartbeat:
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


class HeartbeatStore:
    """Where each rank pins what it is at, and whoever finds a fault pins that; it lives in rank 0's process.

    Args:
        host: of rank 0.
        port: of the process group's store.
        ranks: of the run.
        dead_seconds: silence after which a process on another machine counts as dead.

    Raises:
        RuntimeError: when rank 0 does not answer; so does every method, once rank 0 has ended.
    """

    def __init__(self, host: str, port: int, ranks: int, dead_seconds: float) -> None:
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=10))
        self._store = PrefixStore("watchdog", store)
        self._ranks = ranks
        self._dead_seconds = dead_seconds
        self._last_counts: dict[int, tuple[int, float]] = {}  # rank -> its last count, and when that was new
        self._known: dict[int, Heartbeat] = {}

    def publish(self, heartbeat: Heartbeat) -> None:
        """Shows what this process is at."""
        self._store.set(f"beat/{heartbeat.rank}", json.dumps(asdict(heartbeat)))

    def read(self, rank: int) -> Heartbeat | None:
        """What another is at; None before its first word."""
        if not self._store.check([f"beat/{rank}"]):
            return None
        raw = json.loads(self._store.get(f"beat/{rank}"))
        self._known[rank] = Heartbeat(**{**raw, "clips": tuple(raw["clips"])})
        return self._known[rank]

    def known(self, rank: int) -> Heartbeat | None:
        """What another was at when it was last read; does not ask rank 0."""
        return self._known.get(rank)

    def others(self, rank: int) -> list[Heartbeat]:
        """What all but ``rank`` are at, as far as they have said it."""
        heartbeats = [self.read(other) for other in range(self._ranks) if other != rank]
        return [heartbeat for heartbeat in heartbeats if heartbeat is not None]

    def fault(self) -> str | None:
        """What somebody found."""
        return self._store.get("fault").decode() if self._store.check(["fault"]) else None

    def report_fault(self, fault: str) -> str:
        """Pins a fault for all to see; the first one counts, and is returned."""
        with suppress(RuntimeError):
            return self._store.compare_set("fault", "", fault).decode()
        return fault

    def dead(self, own: Heartbeat) -> Heartbeat | None:
        """The last word of a process that has ended without taking leave."""
        now = time.monotonic()
        for heartbeat in self.others(own.rank):
            if heartbeat.phase == ENDING:
                continue
            if self._last_counts.get(heartbeat.rank, (-1, 0.0))[0] != heartbeat.count:
                self._last_counts[heartbeat.rank] = (heartbeat.count, now)
            silence = now - self._last_counts[heartbeat.rank][1]
            gone = heartbeat.host == own.host and process_is_gone(heartbeat.process) and silence > 2 * HEARTBEAT_SECONDS
            if gone or silence > self._dead_seconds:
                return replace(heartbeat, seconds=silence)
        return None
