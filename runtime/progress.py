"""Progress bars on a terminal, and progress lines in the log file of a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LOG_EVERY = 60.0  # seconds between two lines in a log file


class _Rate(ProgressColumn):
    """Column with the rate, for tasks with a unit."""

    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields.get("unit")
        return Text(f"{speed:.{0 if speed >= 10 else 1}f} {unit}/s" if speed and unit else "")


class Bars(Progress):
    """Rich's progress bars with amount, rate, elapsed and remaining time.

    Without a terminal, prints one line per running task every ``LOG_EVERY`` seconds, so that the log of a long job
    shows its progress.

    Args:
        console: Console to print to.
        options: Options of Rich's ``Progress``.
    """

    def __init__(self, console: Console, **options: Any) -> None:
        self._printed = 0.0
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            **options,
        )

    def start(self) -> None:
        """Starts the display."""
        self._printed = time.monotonic()
        super().start()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Updates a task, as in Rich."""
        super().update(task_id, **changes)
        self._print()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Updates a task, as in Rich."""
        super().advance(task_id, advance)
        self._print()

    def _print(self) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self._printed < LOG_EVERY:
            return
        self._printed = now
        if running := [task for task in self.tasks if task.total and not task.finished]:
            self.console.print(self.make_tasks_table(running))


@contextmanager
def progress_bar(console: Console, what: str, total: int, unit: str | None = None) -> Iterator[Progress]:
    """Progress bar of one task. With the unit that ``total`` counts, it also shows the rate."""
    with Bars(console) as bar:
        bar.add_task(what, total=total, unit=unit)
        yield bar
