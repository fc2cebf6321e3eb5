"""Content of a table before it is written: sections of datasets, groups of rows, and cells with their sources."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from scipy.special import stdtrit

from benchmark.paper import CellKey
from benchmark.tables.reading import Measured
from evaluation.results import Column

CONTROLS = "control"  # group of pseudo-systems, which bound a metric and are not ranked
REAL = "real"
DIGITS = 2  # decimals, as in the paper


@dataclass
class Cell:
    """One number with its sources.

    Attributes:
        value: Mean over runs, or None; of the clips that the compared rows share, if they were compared.
        half: Half of the 95 % interval over three or more runs.
        paper: Value that the paper prints.
        measured: Sources of the number, one per run.
        official: Whether every network used is the metric's official one.
        best: Whether it is better than every other compared row of its group beyond chance.
        compared: Number of clips on which it was compared with other rows; None if it was not.
        apart: Whether it is compared with no other row; its notes say why.
        obstacles: Reasons of the cell itself for which it is compared with no other row.
        notes: Numbers of the table's notes about it.
        digits: Decimals of the number.
    """

    value: float | None = None
    half: float | None = None
    paper: float | None = None
    measured: list[Measured] = field(default_factory=list)
    official: bool = True
    best: bool = False
    compared: int | None = None
    apart: bool = False
    obstacles: list[str] = field(default_factory=list)
    notes: list[int] = field(default_factory=list)
    digits: int = DIGITS


@dataclass
class Row:
    """A system in one mode."""

    name: str
    key: CellKey
    cells: dict[str, Cell]


@dataclass
class Group:
    """Rows that are compared with each other.

    Attributes:
        name: Name of the group.
        rows: Its rows.
        compared: Metric -> number of clips on which rows were compared, of the metrics with at least two such rows.
    """

    name: str
    rows: list[Row]
    compared: dict[str, int] = field(default_factory=dict)


@dataclass
class Section:
    """The part of a table for one dataset."""

    dataset: str
    groups: list[Group]


@dataclass
class Table:
    """Content of a table.

    Attributes:
        number: 1 to 4.
        title: Title.
        columns: Metrics.
        sections: One section per dataset.
        warnings: Reasons why some of its numbers cannot be compared.
        notes: Reasons for missing values; cells refer to them by number, from 1.
        remarks: Lines below the table, such as Table 3's drift and Table 4's agreement.
        sources: Results file -> SHA-256.
        conflicts: Cells that two results files claim, with advice.
    """

    number: str
    title: str
    columns: list[Column]
    sections: list[Section]
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)

    def note(self, text: str) -> int:
        """Returns the number of a note; a new note is added."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1

    def cells(self) -> Iterator[tuple[Section, Group, Row, Column, Cell]]:
        """Yields every cell with its section, group, row and column."""
        for section in self.sections:
            for group in section.groups:
                for row in group.rows:
                    for column in self.columns:
                        yield section, group, row, column, row.cells[column.metric]


def half_interval(numbers: Sequence[float]) -> float | None:
    """Half of the 95 % Student interval of a mean over three or more runs."""
    if len(numbers) < 3:
        return None
    error = statistics.stdev(numbers) / len(numbers) ** 0.5
    return float(stdtrit(len(numbers) - 1, 0.975) * error)


def rounded(value: float, digits: int = DIGITS) -> str:
    """Rounds to a number of decimals, by default the paper's; zero has no minus sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"
