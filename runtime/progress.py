"""Bars of what is running, on a terminal and in the log file of a job."""

from __future__ import annotations

import time
from typing import Any

from rich.progress import Progress, TaskID

SAY = 60.0  # seconds between two lines in a log file


class Bars(Progress):
    """Rich's bars; where there is no terminal, now and then a line for each that is running, and its last at the end.

    Without them the log of a job of hours would say nothing until it is over.
    """

    _said = 0.0

    def start(self) -> None:
        """Begins to show."""
        self._said = time.monotonic()
        super().start()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Takes note of what is done, as Rich's does."""
        super().update(task_id, **changes)
        self._say()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Takes note of what is done, as Rich's does."""
        super().advance(task_id, advance)
        self._say()

    def _say(self) -> None:
        now = time.monotonic()
        if self.console.is_terminal or now - self._said < SAY:
            return
        self._said = now
        if running := [task for task in self.tasks if task.total and not task.finished]:
            self.console.print(self.make_tasks_table(running))
