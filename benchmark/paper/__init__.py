"""The paper's Tables 1 to 4 as data: their rows, columns and printed values."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

TABLES = ("1", "2", "3", "4")
FULL = "full"  # variant of a system without ablation


@dataclass(frozen=True, order=True)
class CellKey:
    """Key of a cell, without its metric.

    Attributes:
        dataset: hdtf, mead, mini, or the dataset name of a results file.
        mode: A (audio only), A+V (audio and the paired video), or control (pseudo-systems that bound a metric).
        system: sadtalker, anitalker, ..., emotivetalk, or any other name.
        variant: full, or a variant of Tables 2 and 3: wo_lip, wo_exp, no_decouple, 120_frames, ...
    """

    dataset: str
    mode: str
    system: str
    variant: str = FULL


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        name: Name as the paper prints it.
        system: See ``CellKey``.
        mode: See ``CellKey``.
        variant: See ``CellKey``.
    """

    name: str
    system: str
    mode: str
    variant: str = FULL

    def key(self, dataset: str) -> CellKey:
        """Returns the row's key for a dataset."""
        return CellKey(dataset, self.mode, self.system, self.variant)


@dataclass(frozen=True)
class PaperGroup:
    """Rows among which the best value is marked, unless the group is ``real``."""

    name: str
    rows: tuple[PaperRow, ...]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        number: 1 to 4.
        title: Title.
        datasets: Datasets; each has a block of columns.
        metrics: Columns, by their names in results files.
        groups: Rows in groups.
        best: Whether the best value of a group is bold.
        values: Values that the paper prints, by cell and metric; cells without a number are absent.
        sha256: Hash of the file that the table was read from.
    """

    number: str
    title: str
    datasets: tuple[str, ...]
    metrics: tuple[str, ...]
    groups: tuple[PaperGroup, ...]
    best: bool
    values: Mapping[tuple[CellKey, str], float]
    sha256: str


def paper_table(number: str) -> PaperTable:
    """Reads one table of the paper.

    Raises:
        KeyError: If the paper has no such table.
    """
    if number not in TABLES:
        raise KeyError(f"the paper has the tables {', '.join(TABLES)}, not {number}")
    content = (resources.files(__name__) / f"table{number}.yaml").read_bytes()
    raw: Any = OmegaConf.to_container(OmegaConf.create(content.decode("utf-8")))
    groups = tuple(
        PaperGroup(group["name"], tuple(PaperRow(**row) for row in group["rows"])) for group in raw["groups"]
    )
    return PaperTable(
        number=number,
        title=raw["title"],
        datasets=tuple(raw["datasets"]),
        metrics=tuple(raw["metrics"]),
        groups=groups,
        best=raw.get("best", True),
        values=_values(raw),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _values(raw: Mapping[str, Any]) -> dict[tuple[CellKey, str], float]:
    found: dict[tuple[CellKey, str], float] = {}
    for dataset, modes in raw["values"].items():
        for mode, rows in modes.items():
            for name, numbers in rows.items():
                system, _, variant = name.partition("/")
                key = CellKey(dataset, mode, system, variant or FULL)
                found |= {
                    (key, metric): number
                    for metric, number in zip(raw["metrics"], numbers, strict=True)
                    if number is not None
                }
    return found
