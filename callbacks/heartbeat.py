"""Heartbeats that ranks exchange outside of collectives, through the store of torch's process group."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

from runtime.platforms import process_is_gone

HEARTBEAT_SECONDS = 1.0  # seconds between heartbeats
SHOWN = 4  # clips named in a message
# Phases in their order. At equal steps, the rank in the earliest phase is behind.
JOINING, STARTING, SAVING, VALIDATING, WAITING, STEPPING, ENDING = range(7)
DOING = (
    "waiting for the other ranks", "starting", "saving", "validating", "waiting for the batch", "in the step", "ending",
)  # fmt: skip


@dataclass(frozen=True)
class Heartbeat:
    """Current activity of a rank.

    Attributes:
        rank: Rank of the process.
        host: Host name.
        process: Process id on the host.
        count: Number of heartbeats; it increases as long as the process is alive.
        step: Training step; 0 before the first.
        phase: Current phase, an index of ``DOING``.
        seconds: Seconds spent in this phase.
        clips: Keys of the clips in the batch.
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
    """Shared store of the heartbeats and of the first fault. The store is in the process of rank 0.

    Args:
        host: Host of rank 0.
        port: Port of the process group's store.
        ranks: Number of ranks.
        dead_seconds: Seconds without a heartbeat after which a process on another host is considered dead.

    Raises:
        RuntimeError: If rank 0 does not respond. All methods raise it once rank 0 has ended, except ``known``.
    """

    def __init__(self, host: str, port: int, ranks: int, dead_seconds: float) -> None:
        store = TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=10))
        self._store = PrefixStore("watchdog", store)
        self._ranks = ranks
        self._dead_seconds = dead_seconds
        self._last_seen: dict[int, tuple[int, float]] = {}  # rank -> latest count, and the time it was first read
        self._known: dict[int, Heartbeat] = {}

    def publish(self, heartbeat: Heartbeat) -> None:
        """Publishes the heartbeat of this process."""
        self._store.set(f"beat/{heartbeat.rank}", json.dumps(asdict(heartbeat)))

    def read(self, rank: int) -> Heartbeat | None:
        """Latest heartbeat of a rank; None before its first."""
        if not self._store.check([f"beat/{rank}"]):
            return None
        raw = json.loads(self._store.get(f"beat/{rank}"))
        self._known[rank] = Heartbeat(**{**raw, "clips": tuple(raw["clips"])})
        return self._known[rank]

    def known(self, rank: int) -> Heartbeat | None:
        """Heartbeat of a rank at its last ``read``; does not contact rank 0."""
        return self._known.get(rank)

    def others(self, rank: int) -> list[Heartbeat]:
        """Latest heartbeats of all ranks except ``rank``."""
        heartbeats = [self.read(other) for other in range(self._ranks) if other != rank]
        return [heartbeat for heartbeat in heartbeats if heartbeat is not None]

    def fault(self) -> str | None:
        """The first reported fault, or None."""
        return self._store.get("fault").decode() if self._store.check(["fault"]) else None

    def report_fault(self, fault: str) -> str:
        """Reports a fault to all ranks. Only the first report is kept; it is returned."""
        with suppress(RuntimeError):
            return self._store.compare_set("fault", "", fault).decode()
        return fault

    def dead(self, own: Heartbeat) -> Heartbeat | None:
        """Last heartbeat of a process that ended without announcing it, or None."""
        now = time.monotonic()
        for heartbeat in self.others(own.rank):
            if heartbeat.phase == ENDING:
                continue
            if self._last_seen.get(heartbeat.rank, (-1, 0.0))[0] != heartbeat.count:
                self._last_seen[heartbeat.rank] = (heartbeat.count, now)
            silence = now - self._last_seen[heartbeat.rank][1]
            gone = heartbeat.host == own.host and process_is_gone(heartbeat.process) and silence > 2 * HEARTBEAT_SECONDS
            if gone or silence > self._dead_seconds:
                return replace(heartbeat, seconds=silence)
        return None
