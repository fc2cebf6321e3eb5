"""The paper's Tables 1 to 4 as data: which rows and columns they have, and the values they print."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from omegaconf import OmegaConf

TABLES = ("1", "2", "3", "4")
FULL = "full"  # the variant of a system that is not ablated


@dataclass(frozen=True, order=True)
class CellKey:
    """Which row of which dataset's table a number is for.

    Attributes:
        dataset: hdtf, mead, mini or any other name a results file gave.
        mode: A (audio alone), A+V (audio and the paired video), or control (pseudo-systems that bound a metric).
        system: sadtalker, anitalker, ..., emotivetalk, or any other name.
        variant: full, or what Tables 2 and 3 vary: wo_lip, wo_exp, no_decouple, 120_frames, ...
    """

    dataset: str
    mode: str
    system: str
    variant: str = FULL


@dataclass(frozen=True)
class PaperRow:
    """One row of a table.

    Attributes:
        name: as the paper prints it.
        system: see ``CellKey``.
        mode: see ``CellKey``.
        variant: see ``CellKey``.
    """

    name: str
    system: str
    mode: str
    variant: str = FULL

    def key(self, dataset: str) -> CellKey:
        """The row's cell for a dataset."""
        return CellKey(dataset, self.mode, self.system, self.variant)


@dataclass(frozen=True)
class PaperGroup:
    """Rows that compete for the best value, unless the group is ``real``."""

    name: str
    rows: tuple[PaperRow, ...]


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        number: 1 to 4.
        title: what it is about.
        datasets: one block of columns each.
        metrics: the columns, as results files name them.
        groups: the rows.
        best: whether the best value of a group is bold.
        values: what the paper prints, by cell and metric; a cell without a number has none.
        sha256: of the file this was read from.
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
        KeyError: for a number the paper does not have.
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
