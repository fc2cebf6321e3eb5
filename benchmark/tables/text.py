"""Texts that all formats of a table share, and the formats Markdown and CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import statistics
from collections.abc import Iterator, Sequence

from benchmark.tables.comparability import signature
from benchmark.tables.reading import Measured
from benchmark.tables.table import DIGITS, Cell, Group, Section, Table, rounded
from evaluation.results import Column

ARROWS = {"lower": "↓", "higher": "↑"}
UNOFFICIAL = "†"
NOTHING = "–"
DETAIL_FIELDS = (
    *("table", "dataset", "mode", "system", "variant", "run", "metric", "title", "value", "low", "high", "n"),
    *("expected", "offset", "floor", "protocol", "protocol_hash", "network", "sha256", "official", "best", "paper"),
    *("shown", "compared", "difference", "file", "file_sha256", "reason"),
)


SHARED_ROW = "shared clips"
FORMULAS = "=+-@"  # first characters of a spreadsheet's formulas


def dataset_title(section: Section) -> str:
    """Name of a dataset as the paper writes it."""
    return section.dataset.upper() if section.dataset in ("hdtf", "mead") else section.dataset.replace("_", " ")


def header(column: Column) -> str:
    """Head of a column, such as ``FID ↓``."""
    return f"{column.title} {ARROWS[column.better]}"


def number(cell: Cell) -> str:
    """Value of a cell, such as ``16.64`` or ``16.64 ± 0.31``; in parentheses if it stands apart; a dash if none."""
    if cell.value is None:
        return NOTHING
    text = rounded(cell.value, cell.digits)
    text = text if cell.half is None else f"{text} ± {rounded(cell.half, cell.digits)}"
    return f"({text})" if cell.apart else text


def compared_clips(group: Group, column: Column) -> str:
    """Number of clips on which the rows of a group were compared, such as ``n 20``; empty if they were not."""
    count = group.compared.get(column.metric)
    return "" if count is None else f"n {count}"


def paper_value(cell: Cell) -> str:
    """Value that the paper prints; empty if there is none."""
    return "" if cell.paper is None else rounded(cell.paper)


def difference(cell: Cell) -> str:
    """Difference from the paper's value, with sign."""
    if cell.paper is None or cell.value is None:
        return ""
    return f"{round(cell.value - cell.paper, DIGITS) + 0.0:+.{DIGITS}f}"


def in_paper(section: Section) -> frozenset[str]:
    """Metrics for which the paper has any value for a dataset."""
    cells = (item for group in section.groups for row in group.rows for item in row.cells.items())
    return frozenset(metric for metric, cell in cells if cell.paper is not None)


def legend(table: Table) -> Iterator[str]:
    """Yields the lines below a table that explain its marks."""
    cells = [cell for *_, cell in table.cells()]
    if any(not cell.official for cell in cells):
        yield f"{UNOFFICIAL} not the metric's official network: not comparable with published values."
    if any(cell.best for cell in cells):
        yield (
            "Bold: better than every other compared row of its group; the 95 % interval of each difference, from a "
            "bootstrap of the shared clips, excludes zero."
        )
    if any(cell.apart for cell in cells):
        yield "(...): not compared with the other rows; its note says why."
    if any(group.compared for section in table.sections for group in section.groups):
        yield f"{SHARED_ROW}: number of clips on which the rows above it were compared."
    if any(cell.half is not None for cell in cells):
        yield "±: half of the 95 % Student interval over training runs."


def details(table: Table) -> list[dict[str, object]]:
    """Returns one row per measured value, and one with the reason for each missing value."""
    rows: list[dict[str, object]] = []
    for section, _, row, column, cell in table.cells():
        place: dict[str, object] = {
            "table": table.number,
            "dataset": section.dataset,
            "mode": row.key.mode,
            "system": row.key.system,
            "variant": row.key.variant,
            "metric": column.metric,
            "title": column.title,
            "paper": cell.paper,
        }
        reason = "; ".join(table.notes[note - 1] for note in cell.notes)
        if not cell.measured:
            rows.append({**place, "reason": reason})
        rows += [{**place, **_measured(table, cell, measured), "reason": reason} for measured in cell.measured]
    return rows


def _measured(table: Table, cell: Cell, measured: Measured) -> dict[str, object]:
    record = measured.record
    interval = record.get("interval") or {}
    value = measured.value
    assert value is not None
    return {
        "run": measured.run,
        "title": record["title"],
        "value": value,
        "low": interval.get("low"),
        "high": interval.get("high"),
        "n": record["n"],
        "expected": record["expected"],
        "offset": sync_offset(measured),
        "floor": record.get("floor"),
        "protocol": record["protocol"].get("name", ""),
        "protocol_hash": hashlib.sha256(signature(measured).encode()).hexdigest()[:8],
        "network": record["network"],
        "sha256": str(record["sha256"])[:12],
        "official": record["official"],
        "best": cell.best,
        "shown": cell.value,
        "compared": cell.compared,
        "difference": None if cell.paper is None else round(value - cell.paper, 6),
        "file": measured.file,
        "file_sha256": table.sources[measured.file][:12],
    }


def sync_offset(measured: Measured) -> float | None:
    """Median over clips of the frames by which the sound leads; None if Sync was not measured."""
    return statistics.median(measured.offsets) if measured.offsets else None


def short_details(table: Table) -> tuple[Sequence[str], list[list[str]]]:
    """Header and rows of the readable table of all measured values."""
    fields = ("dataset", "mode", "system", "metric", "value", "95 %", "n", "protocol", "network", "file")
    rows = []
    for entry in details(table):
        if "value" not in entry:
            continue
        interval = "" if entry["low"] is None else f"{entry['low']:.3g} to {entry['high']:.3g}"
        run = f", run {entry['run']}" if entry["run"] else ""
        variant = "" if entry["variant"] == "full" else f"/{entry['variant']}"
        offset = "" if entry["offset"] is None else f", offset {entry['offset']:+g}"
        floor = "" if entry["floor"] is None else f", {entry['floor']:.4f} for perfect videos"
        rows.append(
            [
                str(entry["dataset"]),
                str(entry["mode"]),
                f"{entry['system']}{variant}{run}",
                str(entry["title"]),
                f"{entry['value']:.4f}",
                interval,
                f"{entry['n']} of {entry['expected']}",
                f"{entry['protocol']} #{entry['protocol_hash']}{offset}{floor}",
                f"{entry['network']} {str(entry['sha256'])[:8]}{'' if entry['official'] else ' ' + UNOFFICIAL}",
                f"{entry['file']} {str(entry['file_sha256'])[:8]}",
            ]
        )
    return fields, rows


def markdown(table: Table, paper: bool) -> str:
    """Returns a table in Markdown; ``paper`` adds the paper's values."""
    lines = [f"# Table {table.number}: {table.title}", ""]
    lines += [f"> **Warning** {_inline(text)}\n" for text in table.warnings]
    for section in table.sections:
        printed = in_paper(section) if paper else frozenset()
        heads = ["", "Driven"]
        for column in table.columns:
            heads += [header(column), *(["paper", "Δ"] if column.metric in printed else [])]
        lines += [
            f"## {_inline(dataset_title(section))}",
            "",
            _pipes(heads),
            _pipes(["---", "---"] + ["--:"] * (len(heads) - 2)),
        ]
        for group in section.groups:
            for row in group.rows:
                values = [_inline(row.name), _inline(row.key.mode)]
                for column in table.columns:
                    cell = row.cells[column.metric]
                    values.append(_markdown_cell(cell))
                    values += [paper_value(cell), difference(cell)] if column.metric in printed else []
                lines.append(_pipes(values))
            if group.compared:
                values = [f"*{SHARED_ROW}*", ""]
                for column in table.columns:
                    values += [compared_clips(group, column), *(["", ""] if column.metric in printed else [])]
                lines.append(_pipes(values))
        lines.append("")
    lines += [f"{line}\n" for line in legend(table)]
    lines += [f"{place}. {_inline(note)}" for place, note in enumerate(table.notes, 1)]
    lines += ["", *(f"- {_inline(remark)}" for remark in table.remarks)]
    fields, rows = short_details(table)
    if rows:
        lines += ["", "## Every value", "", _pipes(fields), _pipes(["---"] * len(fields))]
        lines += [_pipes([_inline(text) for text in row]) for row in rows]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = number(cell)
    if cell.best:
        text = f"**{text}**"
    marks = UNOFFICIAL if cell.value is not None and not cell.official else ""
    notes = ",".join(str(note) for note in cell.notes)
    return text + marks + (f" <sup>{notes}</sup>" if notes else "")


def _inline(text: str) -> str:
    """Escapes text for Markdown."""
    for character in "\\`*_<>[]|":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _pipes(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"


def comma_separated(table: Table) -> str:
    """Returns every value of a table with its sources as CSV, one value per line."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, DETAIL_FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in details(table))
    return buffer.getvalue()


def _cell(value: object) -> object:
    """A text that a spreadsheet would read as a formula, with an apostrophe, which spreadsheets do not show."""
    return f"'{value}" if isinstance(value, str) and value.lstrip()[:1] in FORMULAS and value.strip() else value
