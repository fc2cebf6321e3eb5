"""The types of ``python evaluate.py table=...``: the paper's tables from results files."""

from __future__ import annotations

from dataclasses import dataclass, field

from configs.fields import choice, literal
from configs.loggers import ScoreLoggerConfig


@dataclass
class TableConfig:
    """``evaluate.py table=...``.

    Attributes:
        table: 1, 2, 3, 4 or all.
        results: folder of results files; every ``*.json`` in it is read.
        output: folder of the tables.
        datasets: show these (as ``cell.dataset`` named them) instead of the paper's, e.g. [mini].
        paper: show the paper's value and the difference beside each value.
        logger: Loggers besides the tables' files.
    """

    table: str = choice("all", "1", "2", "3", "4", "all")
    results: str = literal("results")
    output: str = literal("results/tables")
    datasets: list[str] = field(default_factory=list)
    paper: bool = True
    logger: ScoreLoggerConfig = field(default_factory=ScoreLoggerConfig)
