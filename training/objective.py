"""Value by which a sweep compares runs."""

from __future__ import annotations

import csv
import difflib
import math
from pathlib import Path

from callbacks.logs import CsvLog
from configs.errors import ConfigError


def best_value(name: str, folder: Path, largest: bool = False) -> float:
    """Best value of the whole run, including its resumed parts.

    Args:
        name: Name of the logged value.
        folder: Run directory.
        largest: Whether larger values are better.

    Raises:
        ConfigError: If the run did not log the value.
    """
    path = CsvLog(folder).path
    rows: list[dict[str, str]] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    values = [float(row[name]) for row in rows if row.get(name)]
    values = [value for value in values if math.isfinite(value)]
    if not values:
        logged = sorted({column for row in rows for column, value in row.items() if value} - {"step", "epoch"})
        near = difflib.get_close_matches(name, logged, n=1)
        hint = f"did you mean {near[0]}? There are " if near else "there are "
        raise ConfigError(f"objective={name}: was not logged; {hint}{', '.join(logged) or 'none'} in {path}")
    return max(values) if largest else min(values)
