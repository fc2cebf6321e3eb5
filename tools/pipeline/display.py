"""Messages and progress of a chain: bars on a terminal, occasional lines in a log file."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from tools.pipeline.step import Step

LOG_EVERY = 30.0  # seconds between two lines in a log file


class ChainDisplay:
    """Context manager that shows what the steps of a chain do. Steps may use it from several threads.

    Args:
        console: Console, which may be a terminal or a file.
        named: Whether each line begins with the name of its step, because several run at the same time.
    """

    def __init__(self, console: Console, named: bool) -> None:
        self.console, self.named = console, named
        self.bars = Progress(
            TextColumn("  "), BarColumn(bar_width=30), TextColumn("{task.description}"), console=console, transient=True
        )

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def title(self, step: Step, number: int, total: int) -> None:
        """Prints the title of a step that starts."""
        if not self.named:
            self.console.print()
        self.print(step, f"[bold]Step {number} of {total}[/]  {escape(step.title)}")

    def print(self, step: Step, text: str) -> None:
        """Prints a line about a step; ``text`` may have markup."""
        name = f"[dim]{escape(step.name)}[/]  " if self.named else ""
        self.console.print(f"{name}{text}", soft_wrap=True, highlight=False)


class StepClock:
    """Context manager that shows count, bar and time of a running step.

    Args:
        step: Running step.
        display: Display of its chain.
    """

    def __init__(self, step: Step, display: ChainDisplay) -> None:
        self.step, self.display = step, display
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar = self.display.bars.add_task("", total=self.step.progress.total if self.step.progress else None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.display.bars.remove_task(self._bar)

    def refresh(self) -> None:
        """Updates the display."""
        now = time.monotonic()
        if self.display.console.is_terminal:
            done, line = self._line(now)
            name = f"{escape(self.step.name)}  " if self.display.named else ""
            self.display.bars.update(self._bar, completed=done, description=f"{name}{line}")
        elif now - self._last_line >= LOG_EVERY:
            self._last_line = now
            self.display.print(self.step, f"  {self._line(now)[1]}")

    def _line(self, now: float) -> tuple[int, str]:
        """Returns the number of finished items and the text of the bar."""
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
    """Formats a duration as 0:42, 12:07 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
