"""A table ready to be written: sections of datasets, groups of rows, cells that know all they depend on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmark.paper import CellKey
from benchmark.tables.reading import Measured
from benchmark.user_study.design import QUESTIONS
from configs.registries import METRICS
from evaluation.results import Column

CONTROLS = "control"  # the group of what bounds a metric and competes with nobody
REAL = "real"
DIGITS = 2  # as the paper prints


def columns() -> dict[str, Column]:
    """Every column a table may have, by name: those of all metrics, and those of the user study."""
    measured = [column for name in METRICS.names() for column in METRICS.get(name).columns]
    rated = [Column(question, title, "higher") for question, (title, _) in QUESTIONS.items()]
    return {column.metric: column for column in (*measured, *rated)}


@dataclass
class Cell:
    """One number, with all it depends on.

    Attributes:
        value: the number, mean over runs, or None.
        half: half of the 95 % interval over three or more runs.
        paper: what the paper prints here.
        measured: where the number comes from, one per run.
        official: whether every network behind it is the metric's own.
        best: the best of its group.
        notes: numbers of the table's notes about it.
    """

    value: float | None = None
    half: float | None = None
    paper: float | None = None
    measured: list[Measured] = field(default_factory=list)
    official: bool = True
    best: bool = False
    notes: list[int] = field(default_factory=list)


@dataclass
class Row:
    """One system in one mode."""

    name: str
    key: CellKey
    cells: dict[str, Cell]


@dataclass
class Group:
    """Rows that compete."""

    name: str
    rows: list[Row]


@dataclass
class Section:
    """One dataset's part of a table."""

    dataset: str
    groups: list[Group]


@dataclass
class Table:
    """A table ready to be written.

    Attributes:
        number: 1 to 4.
        title: what it is about.
        columns: the metrics.
        sections: one per dataset.
        warnings: what makes numbers of it incomparable.
        notes: why something is missing; cells refer to them by number from 1.
        remarks: further lines below the table, Table 3's drift and Table 4's agreement.
        sources: results files used -> sha256.
        conflicts: cells that two results files claim, and what to do.
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
        """The number of a note, which is added where it is new."""
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1

    def cells(self) -> Iterator[tuple[Section, Group, Row, Column, Cell]]:
        """Every cell with its place."""
        for section in self.sections:
            for group in section.groups:
                for row in group.rows:
                    for column in self.columns:
                        yield section, group, row, column, row.cells[column.metric]
