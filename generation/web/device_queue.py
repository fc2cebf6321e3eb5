"""The queue for the device: one video at a time, a limited number of places, and a fair share of time."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from generation.errors import GenerationError

HOUR = 3600.0  # seconds over which a visitor's use of the device is counted
POLL = 0.2  # seconds between two checks for Stop while waiting


class DeviceQueue:
    """Gives the device to one request at a time.

    Requests are served in order of arrival. A visitor who used the device for longer than their share of the last hour
    is served after all others, and ``is_over`` is true while their video is made.

    Args:
        places: Requests that may wait; one more has the device.
        places_each: Requests of one visitor, waiting or running.
        minutes_each: Minutes per hour that a visitor may use the device while others wait.
        clock: Source of the time, seconds.
    """

    def __init__(
        self, places: int, places_each: int, minutes_each: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.places, self.places_each, self.minutes_each, self.clock = places, places_each, minutes_each, clock
        self._held: Counter[str] = Counter()  # visitor -> requests, waiting or running
        self._waiting: list[tuple[object, str]] = []
        self._running: tuple[object, str, float] | None = None  # ticket, visitor and start
        self._used: dict[str, deque[tuple[float, float]]] = defaultdict(deque)  # visitor -> (end, seconds)
        self._changed = threading.Condition()

    @contextmanager
    def place(self, visitor: str) -> Iterator[None]:
        """Holds a place for a request.

        Raises:
            GenerationError: If the visitor, or all visitors together, hold as many places as there are.
        """
        with self._changed:
            if self._held[visitor] >= self.places_each:
                raise GenerationError(
                    f"{self._held[visitor]} of your videos are being made; wait until one is done, or stop it."
                )
            if self._held.total() > self.places:
                raise GenerationError(f"{self.places} people wait already; try again in a few minutes.")
            self._held[visitor] += 1
        try:
            yield
        finally:
            with self._changed:
                self._held[visitor] -= 1
                self._held += Counter()  # forgets visitors without a place

    @contextmanager
    def turn(self, visitor: str, check: Callable[[], object], on_wait: Callable[[int], object]) -> Iterator[None]:
        """Waits for the device and holds it during the block.

        Args:
            visitor: Name of the visitor.
            check: Called while waiting; an exception that it raises ends the waiting.
            on_wait: Called with the number of requests before this one whenever it changes.
        """
        ticket = object()
        with self._changed:
            self._waiting.append((ticket, visitor))
        try:
            self._wait(ticket, check, on_wait)
            yield
        finally:
            with self._changed:
                self._waiting = [entry for entry in self._waiting if entry[0] is not ticket]
                if self._running is not None and self._running[0] is ticket:
                    self._used[visitor].append((self.clock(), self.clock() - self._running[2]))
                    self._running = None
                    for one in list(self._used):
                        self._seconds(one)  # forgets what is older than an hour
                self._changed.notify_all()

    def is_over(self, visitor: str) -> bool:
        """Whether the visitor who has the device used up their share while another visitor waits."""
        with self._changed:
            others = any(other != visitor for _, other in self._waiting)
            return others and self._seconds(visitor) > 60 * self.minutes_each

    def _wait(self, ticket: object, check: Callable[[], object], on_wait: Callable[[int], object]) -> None:
        reported = -1
        while True:
            with self._changed:
                order = sorted(self._waiting, key=lambda entry: self._seconds(entry[1]) > 60 * self.minutes_each)
                before = [entry[0] for entry in order].index(ticket) + (self._running is not None)
                if before == 0:
                    self._waiting.remove(order[0])
                    self._running = (*order[0], self.clock())
                    return
                if before == reported:
                    self._changed.wait(POLL)
            check()
            if before != reported:  # outside of the lock: it may be slow
                on_wait(before)
                reported = before

    def _seconds(self, visitor: str) -> float:
        """Seconds of the last hour in which a visitor had the device."""
        now = self.clock()
        used = self._used.get(visitor, deque())
        while used and used[0][0] < now - HOUR:
            used.popleft()
        if not used:
            self._used.pop(visitor, None)
        running = now - self._running[2] if self._running is not None and self._running[1] == visitor else 0.0
        return running + sum(seconds for _, seconds in used)
