"""The line that says how far a running step is: redrawn on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from tools.pipeline.step import Step

SAY = 30.0  # seconds between two lines in a log file


class StepClock:
    """Shows count, bar and time of one running step; a context manager.

    Args:
        step: which may say how far it is, and how long it takes.
        console: a terminal, or not.
    """

    def __init__(self, step: Step, console: Console) -> None:
        self.step, self.console = step, console
        self._start = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("  "), BarColumn(bar_width=30), TextColumn("{task.description}"), console=console, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._bar.start()
            self._task = self._bar.add_task("", total=self.step.progress.total if self.step.progress else None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def look(self) -> None:
        """Looks how far the step is, and says it."""
        now = time.monotonic()
        if self.console.is_terminal:
            done, line = self._line(now)
            self._bar.update(self._task, completed=done, description=line)
        elif now - self._said >= SAY:
            self._said = now
            self.console.print(f"  {self._line(now)[1]}", highlight=False)

    def _line(self, now: float) -> tuple[int, str]:
        """How many are done, and the words."""
        spent, progress = now - self._start, self.step.progress
        parts = [format_duration(spent)]
        if self.step.seconds is not None:
            parts.append(f"of about {format_duration(self.step.seconds)}")
        done = 0
        if progress is not None:
            done = progress.done()
            parts.append(f"· {done} of {progress.total} {progress.unit}")
        return done, " ".join(parts)


def format_duration(seconds: float) -> str:
    """A time as people say it: 0:42, 12:07, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
