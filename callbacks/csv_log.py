"""Logged values as one table in the run directory, which a resumed run goes on with as if it had never stopped."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from runtime.files import whole_file

Row = dict[str, str]


class CsvLog(Logger):
    """Rows of ``csv/metrics.csv``: epoch, step, and what was logged together; written at once, by the first rank.

    Args:
        folder: run directory.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "csv" / "metrics.csv"
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """What Lightning calls it."""
        return "csv"

    @property
    def version(self) -> str:
        """There is only one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run directory has the configuration itself."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        row = {"step": "" if step is None else str(step), **{name: str(float(v)) for name, v in metrics.items()}}
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():
            self._rewrite([*self._read(), row], sorted({*self._columns, *new}))
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Waits until the rows are on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Leaves the rows that led to the checkpoint after ``step`` steps; of a run that starts anew, none.

        A batch has the number of the steps before it. A validation is logged under the last batch before it, but after
        its checkpoint, and a resumed run does it again.
        """
        rows = self._read()
        if step == 0 and rows:
            number = 1 + len(list(self.path.parent.glob("metrics-*.csv")))
            os.replace(self.path, self.path.with_name(f"metrics-{number}.csv"))
            self._columns = []
        elif rows:
            self._rewrite([row for row in rows if _before(row, step)], self._columns)

    def _read(self) -> list[Row]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            self._columns = list(reader.fieldnames or [])
        return rows

    def _rewrite(self, rows: Iterable[Row], columns: list[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        self._columns = columns


def _before(row: Row, step: int) -> bool:
    """Whether a row was written before the checkpoint after ``step`` steps took its name."""
    if not row["step"]:
        return True
    validated = any(value for name, value in row.items() if name.startswith("val/"))
    return int(row["step"]) < step - validated
