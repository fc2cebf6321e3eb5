"""Schema of ``python evaluate.py table=...``: the paper's tables, built from results files."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import choice, literal
from configs.loggers import ScoreLoggerConfig


@dataclass
class TableConfig:
    """``evaluate.py table=...``.

    Attributes:
        table: 1, 2, 3, 4 or all.
        results: Folder of results files; every ``*.json`` in it is read.
        output: Folder of the tables.
        datasets: Datasets, by their ``cell.dataset``, that replace those of the paper, e.g. [mini].
        columns: Further columns, by metric, e.g. [kid, aed].
        paper: Whether to show the paper's value and the difference with each value.
        logger: Loggers in addition to the tables' files.
    """

    table: str = choice("all", "1", "2", "3", "4", "all")
    results: str = literal("results")
    output: str = literal("results/tables")
    datasets: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    paper: bool = True
    logger: ScoreLoggerConfig = field(default_factory=ScoreLoggerConfig)
