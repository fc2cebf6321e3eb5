"""Which numbers of a table may be compared: equal choices, equal networks, the same real videos. Else a warning."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmark.tables.reading import Measured
from benchmark.tables.table import DIGITS, Group, Section, Table
from evaluation.results import Column


def mark_best(group: Group, columns: Sequence[Column]) -> None:
    """Marks the best, at the precision that is printed, where all values of the group are comparable."""
    for column in columns:
        cells = [row.cells[column.metric] for row in group.rows if row.cells[column.metric].value is not None]
        signatures = {signature(row) for cell in cells for row in cell.measured}
        if len(cells) < 2 or len(signatures) > 1:
            continue
        numbers = [round(cell.value, DIGITS) for cell in cells if cell.value is not None]
        best = min(numbers) if column.better == "lower" else max(numbers)
        for cell, number in zip(cells, numbers, strict=True):
            cell.best = number == best


def signature(row: Measured) -> str:
    """Everything but the videos that a value depends on, as text: equal texts may be compared."""
    return json.dumps(_choices(row), sort_keys=True)


def _choices(row: Measured) -> dict[str, Any]:
    networks = row.record.get("networks") or [{"network": row.record["network"], "sha256": row.record["sha256"]}]
    return {
        **{f"protocol.{name}": value for name, value in row.record["protocol"].items()},
        "fps": row.settings.get("fps"),
        "networks": [f"{network['network']} {network['sha256'][:12]}" for network in networks],
    }


def warn_of_protocols(table: Table) -> None:
    """Adds a warning for each metric whose cells were not computed by the same choices and networks."""
    for column in table.columns:
        groups: dict[str, tuple[Measured, list[str]]] = {}
        for section, _, row, other, cell in table.cells():
            for measured in cell.measured if other == column else ():
                groups.setdefault(signature(measured), (measured, []))[1].append(f"{row.name} ({section.dataset})")
        if len(groups) > 1:
            choices = [_choices(measured) for measured, _ in groups.values()]
            differ = sorted({name for one in choices for name in one if any(o.get(name) != one[name] for o in choices)})
            message = "; ".join(
                f"{', '.join(dict.fromkeys(names))}: {_short({name: choice.get(name) for name in differ})}"
                for (_, names), choice in zip(groups.values(), choices, strict=True)
            )
            table.warnings.append(f"{column.title}: {len(groups)} protocols in one table, do not compare: {message}")


def _short(choices: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removeprefix('protocol.')}={value}" for name, value in choices.items())


def warn_of_clips(section: Section, table: Table) -> None:
    """Systems must have been compared with the same real videos, and with as many."""
    files: dict[str, Mapping[str, str]] = {}
    counts: dict[str, set[int]] = defaultdict(set)
    for group in section.groups:
        for row in group.rows:
            for metric, cell in row.cells.items():
                for measured in cell.measured:
                    counts[metric].add(measured.record["n"])
                    files[measured.file] = measured.clips
    versions = _versions(files)
    if len(versions) > 1 and table.number != "3":  # whose rows are cut to other lengths
        message = "; ".join(", ".join(names) for names, _ in versions)
        table.warnings.append(
            f"{section.dataset}: rows compare with different versions of the real videos, in another framing or of "
            f"another source: {message}"
        )
    titles = {column.metric: column.title for column in table.columns}
    if uneven := [titles[metric] for metric, found in counts.items() if len(found) > 1]:
        table.warnings.append(
            f"{section.dataset}: not the same number of clips in every row of {', '.join(uneven)}, so they were "
            "not given the same task"
        )


def _versions(files: Mapping[str, Mapping[str, str]]) -> list[tuple[list[str], dict[str, str]]]:
    """Results files grouped so that none of a group knows another real video of a clip than the rest of it."""
    versions: list[tuple[list[str], dict[str, str]]] = []
    for file, clips in files.items():
        for names, known in versions:
            if all(known.get(clip, sha256) == sha256 for clip, sha256 in clips.items()):
                names.append(file)
                known.update(clips)
                break
        else:
            versions.append(([file], dict(clips)))
    return versions
