"""Notes on repairs of the sound of a file, and the timestamps of its packets as far as they can be trusted."""

from __future__ import annotations

from fractions import Fraction

from media.sound import JITTER

_LONGEST_GAP = 60  # seconds of timestamps without sound that are a pause; longer ones are an error of the timestamps


class Repairs:
    """Notes on repairs, one of a kind.

    Attributes:
        reason: FFmpeg's words for the first error.
    """

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}
        self._counts: dict[str, tuple[int, Fraction, Fraction]] = {}
        self.reason = ""

    def add(self, kind: str, note: str) -> None:
        """Adds a note unless there is one of its kind."""
        self._notes.setdefault(kind, note)

    def count(self, kind: str, at: Fraction, length: Fraction = Fraction(0)) -> None:
        """Counts a repair of a kind that is described in ``_KINDS``."""
        number, first, total = self._counts.get(kind, (0, at, Fraction(0)))
        self._counts[kind] = number + 1, first, total + length

    def number(self, kind: str) -> int:
        """How often a repair of a kind was counted."""
        return self._counts[kind][0] if kind in self._counts else 0

    def kinds(self) -> set[str]:
        """Kinds of all notes."""
        return {*self._notes, *self._counts}

    def notes(self) -> tuple[str, ...]:
        """All notes."""
        counted = [
            _KINDS[kind].format(n=number, s="s" * (number > 1), at=float(first), total=float(total))
            for kind, (number, first, total) in self._counts.items()
        ]
        return (*self._notes.values(), *counted)


_KINDS = {
    "damaged": "{n} packet{s} of sound cannot be decoded, the first at {at:.2f} s; replaced by silence",
    "gap": "its timestamps leave out {total:.2f} s in {n} place{s}, the first at {at:.2f} s; filled with silence",
    "back": "its timestamps go back {n} time{s}, first at {at:.2f} s; read one after the other",
    "jump": "its timestamps jump by {total:.0f} s in {n} place{s}, the first at {at:.2f} s; read one after the other",
}


class Clock:
    """Places sounds that follow each other by their timestamps, as far as those can be trusted.

    Attributes:
        end: End of what was placed, seconds from the beginning.
    """

    def __init__(self, lead: Fraction, repairs: Repairs) -> None:
        self.end = lead
        self._repairs = repairs
        self._origin: Fraction | None = None

    def start(self, time: Fraction) -> None:
        """Sets the timestamp of the beginning, which is otherwise that of the first sound."""
        self._origin = time - self.end

    def place(self, time: Fraction | None, length: Fraction) -> Fraction:
        """Adds a sound; returns the seconds of silence before it."""
        silence = Fraction(0)
        if time is not None:
            if self._origin is None:
                self._origin = time - self.end
            ahead = time - self._origin - self.end
            if ahead < -JITTER:
                self._repairs.count("back", self.end)
                self._origin = time - self.end
            elif ahead > _LONGEST_GAP:
                self._repairs.count("jump", self.end, ahead)
                self._origin = time - self.end
            elif ahead > JITTER:
                self._repairs.count("gap", self.end, ahead)
                silence = ahead
        self.end += silence + length
        return silence

    def until(self, time: Fraction) -> Fraction | None:
        """The time of a timestamp from the beginning, or None before the first."""
        return None if self._origin is None else time - self._origin
