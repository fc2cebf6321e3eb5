"""Finds results that no cell of any table shows, because no table has their dataset, system or variant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.cell_names import known_names, nearest, plain
from benchmark.paper import FULL, TABLES, CellKey, paper_table
from benchmark.tables.reading import RATED, FoundResults


@dataclass(frozen=True)
class LostResult:
    """Results files that name a cell which no table has, or a system that is probably misspelt.

    Attributes:
        files: Names of the files.
        reason: What no table has, with the nearest name.
        misspelt: Whether the name is most likely wrong.
    """

    files: tuple[str, ...]
    reason: str
    misspelt: bool

    def __str__(self) -> str:
        """Returns the files with the reason."""
        return f"{', '.join(self.files)}: {self.reason}"


def lost_results(found: FoundResults, datasets: Sequence[str]) -> list[LostResult]:
    """Lists the results that no table shows.

    Args:
        found: Content of the results folder.
        datasets: Datasets that replace the paper's; results of the paper's own are then left out on purpose.
    """
    return list(_lost(found, datasets))


def _lost(found: FoundResults, datasets: Sequence[str]) -> Iterator[LostResult]:
    names = known_names()
    tables = [paper_table(number) for number in TABLES if number != "4"]
    papers = tuple(dict.fromkeys(name for table in tables for name in table.datasets))
    variants = {row.key("").variant for table in tables for group in table.groups for row in group.rows}
    modes: dict[tuple[str, str], set[str]] = {}
    for table in tables:
        for row in (row for group in table.groups for row in group.rows):
            modes.setdefault((row.system, row.variant), set()).add(row.mode)
    for key in sorted({*found.files, *found.reasons}):
        if key.mode == RATED:
            continue
        read = [name for run in found.files.get(key, {}).values() for name in run]
        files = tuple(dict.fromkeys([*read, *(name for name, _ in found.reasons.get(key, []))]))
        shown = tuple(datasets) or papers
        if key.dataset not in shown and not (datasets and key.dataset in papers):
            near = nearest(key.dataset, shown)
            hint = f"did you mean {near}?" if near else f"add datasets=[{key.dataset}]"
            yield LostResult(files, f"cell.dataset={key.dataset} is in no table; {hint}", near is not None)
        elif key.variant not in variants:
            near = nearest(key.variant, variants)
            hint = f"did you mean {near}?" if near else f"expected one of {', '.join(sorted(variants))}"
            yield LostResult(files, f"cell.variant={key.variant} is in no table; {hint}", near is not None)
        elif key.variant != FULL and (key.system, key.variant) not in modes:
            owners = sorted({system for system, variant in modes if variant == key.variant})
            reason = f"no table has variant {key.variant} of {key.system}, only of {', '.join(owners)}"
            yield LostResult(files, reason, nearest(key.system, owners) is not None)
        elif key.variant != FULL and key.mode not in (known := modes[key.system, key.variant]):
            others = ", ".join(sorted(known))
            reason = f"no table has variant {key.variant} of {key.system} in mode {key.mode}, only in {others}"
            yield LostResult(files, reason, misspelt=True)
        elif near := _misspelt(key, names["system"], found):
            reason = f"cell.system={key.system} has a row of its own in Table 1; did you mean {near}?"
            yield LostResult(files, reason, plain(near) == plain(key.system))


def _misspelt(key: CellKey, known: Sequence[str], found: FoundResults) -> str | None:
    settings = (row.settings for (other, _), rows in found.measured.items() for row in rows if other == key)
    if key.system in known or any(setting.get("cell", {}).get("new") for setting in settings):
        return None
    return nearest(key.system, known)
