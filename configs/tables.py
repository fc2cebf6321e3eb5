"""The types of ``python evaluate.py table=...``: the paper's tables from results files."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.errors import ConfigError
from configs.fields import literal

CHOICES = ("1", "2", "3", "4", "all")


@dataclass
class TableConfig:
    """``evaluate.py table=...``.

    Attributes:
        table: 1, 2, 3, 4 or all.
        results: folder of results files; every ``*.json`` in it is read.
        output: folder of the tables.
        datasets: show these (as ``cell.dataset`` named them) instead of the paper's, e.g. [mini].
        paper: show the paper's value and the difference beside each value.
    """

    table: str = "all"
    results: str = literal("results")
    output: str = literal("results/tables")
    datasets: list[str] = field(default_factory=list)
    paper: bool = True


def validate_tables(config: TableConfig) -> None:
    """Checks the configuration of the tables.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    if config.table not in CHOICES:
        raise ConfigError(f"table={config.table}: expected one of {', '.join(CHOICES)}")
    if len(set(config.datasets)) < len(config.datasets):
        raise ConfigError(f"datasets={config.datasets}: names one twice")
