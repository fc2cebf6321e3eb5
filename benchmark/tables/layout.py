"""Puts measured values into the rows and columns of one of the paper's tables; what is missing says why."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from scipy import stats

from benchmark.paper import CellKey, PaperTable
from benchmark.tables.comparability import mark_best, warn_of_clips, warn_of_protocols
from benchmark.tables.reading import GROUND_TRUTH, FoundResults, Measured
from benchmark.tables.table import CONTROLS, REAL, Cell, Group, Row, Section, Table, columns


def lay_out(paper: PaperTable, found: FoundResults, datasets: Sequence[str] = ()) -> Table:
    """Makes a table.

    Args:
        paper: its rows, columns and the paper's values.
        found: what the results folder holds.
        datasets: the datasets instead of the paper's.
    """
    known = columns()
    table = Table(paper.number, paper.title, [known[metric] for metric in paper.metrics], [])
    for dataset in datasets or paper.datasets:
        groups = [
            Group(group.name, [_row(row.name, row.key(dataset), paper, found, table) for row in group.rows])
            for group in paper.groups
        ]
        _add_other_systems(groups, dataset, paper, found, table)
        table.sections.append(Section(dataset, [group for group in groups if group.rows]))
    warn_of_protocols(table)
    for section in table.sections:
        warn_of_clips(section, table)
        for group in section.groups:
            if paper.best and group.name not in (REAL, CONTROLS):
                mark_best(group, table.columns)
    table.remarks += list(_drift_remarks(table)) + list(_agreement_remarks(table))
    used = {measured.file for *_, cell in table.cells() for measured in cell.measured}
    table.sources = {name: found.hashes[name] for name in sorted(used)}
    return table


def _row(name: str, key: CellKey, paper: PaperTable, found: FoundResults, table: Table) -> Row:
    cells = {}
    for metric in paper.metrics:
        if key.system == GROUND_TRUTH and key.dataset != "user_study":
            cell = _truth_cell(key, metric, found, table)
        else:
            cell = _cell(key, metric, found, table)
        cells[metric] = replace(cell, paper=paper.values.get((key, metric)))
    return Row(name, key, cells)


def _cell(key: CellKey, metric: str, found: FoundResults, table: Table) -> Cell:
    rows = found.measured.get((key, metric), []) + found.measured.get(
        (key, columns()[metric].family), []
    )  # a family that failed
    values = [row for row in rows if row.value is not None]
    if not values:
        return Cell(notes=[table.note(reason) for reason in _reasons(key, rows, found)])
    by_run: defaultdict[int, list[Measured]] = defaultdict(list)
    for row in values:
        by_run[row.run].append(row)
    twice = [rows for rows in by_run.values() if len(rows) > 1]
    if twice:
        files = " and ".join(row.file for row in twice[0])
        reason = (
            f"{files} are two results for one cell ({_named(key)}, run {twice[0][0].run}); remove one, or tell runs "
            "apart with cell.run"
        )
        table.conflicts.append(reason)
        return Cell(notes=[table.note(reason)])
    numbers = [row.value for row in values if row.value is not None]
    notes = [
        table.note(
            f"{row.record['n']} of {row.record['expected']} {row.record.get('counted', 'clips')} ({row.file} lists why)"
        )
        for row in values
        if row.record["n"] < row.record["expected"]
    ]
    notes += [table.note(text) for row in values if (text := _self_check(row))]
    return Cell(
        value=statistics.fmean(numbers),
        half=_half_interval(numbers),
        measured=values,
        official=all(row.record["official"] for row in values),
        notes=sorted(set(notes)),
    )


def _half_interval(numbers: Sequence[float]) -> float | None:
    """Half the 95 % Student interval of a mean over three or more runs."""
    if len(numbers) < 3:
        return None
    error = statistics.stdev(numbers) / len(numbers) ** 0.5
    return float(stats.t.ppf(0.975, len(numbers) - 1) * error)


def _self_check(row: Measured) -> str | None:
    check = row.record.get("self_check")
    if not isinstance(check, dict) or check.get("passed"):
        return None
    return (
        f"the network failed its self-check on the real videos ({check.get('found')} of {check.get('videos')}): "
        "its values say nothing about synchrony"
    )


def _reasons(key: CellKey, rows: Iterable[Measured], found: FoundResults) -> Iterator[str]:
    messages = [f"not computed: {row.reason} ({row.file})" for row in rows if row.reason]
    messages += [f"{reason} ({file})" for file, reason in found.reasons.get(key, [])]
    if not messages and any(other == key for other, _ in found.measured):
        messages = ["not among the metrics that were evaluated; evaluate again with it in metrics"]
    if messages:
        yield from dict.fromkeys(messages)
    elif key.dataset == "user_study":
        yield "not run: no user study in the results folder rated it (python -m benchmark.user_study collect)"
    else:
        yield "not run: no results file of the folder names this cell (cell.system, cell.dataset, cell.mode)"


def _named(key: CellKey) -> str:
    return f"{key.system}, {key.mode}, {key.dataset}, {key.variant}"


def _truth_cell(key: CellKey, metric: str, found: FoundResults, table: Table) -> Cell:
    """The real videos' own value: of an evaluation of them, or what the others found beside the generated ones."""
    column = columns()[metric]
    if not column.family:
        return Cell()  # FID, FVD and E-FID compare with the real videos, which so have none
    if found.measured.get((key, metric)):
        return _cell(key, metric, found, table)
    dataset = key.dataset
    best: tuple[int, float, Measured] | None = None
    seen: dict[int, set[float]] = defaultdict(set)
    for (other, name), rows in found.measured.items():
        if other.dataset != dataset or name != metric:
            continue
        for row in rows:
            truth = row.record.get("ground_truth")
            if not isinstance(truth, dict) or truth.get("value") is None:
                continue
            seen[truth["n"]].add(round(truth["value"], 9))
            if best is None or truth["n"] > best[0]:
                best = truth["n"], truth["value"], row
    if best is None:
        return Cell(notes=[table.note("no evaluation of this dataset scored its real videos")])
    count, value, row = best
    if len(seen[count]) > 1:
        spread = " to ".join(f"{number:.4g}" for number in (min(seen[count]), max(seen[count])))
        table.warnings.append(
            f"{dataset}: the real videos' {column.title} is {spread}, depending on the results file: under "
            "different protocols, of different clips or in different framings; an evaluation of the real videos "
            "themselves (cell.system=ground_truth cell.mode=A+V) goes before these"
        )
    record = {**row.record, "n": count, "expected": row.record["ground_truth"]["expected"], "interval": None}
    return Cell(value=value, measured=[replace(row, value=value, record=record)], official=bool(record["official"]))


def _add_other_systems(groups: list[Group], dataset: str, paper: PaperTable, found: FoundResults, table: Table) -> None:
    """Systems the paper does not have join the group of their mode; those of another mode stand apart."""
    if paper.number not in ("1", "4"):
        return  # Tables 2 and 3 vary one system
    known = {row.key for group in groups for row in group.rows}
    keys = {key for key, _ in found.measured} | set(found.reasons)
    variant = next(iter(known)).variant
    others = sorted(key for key in keys - known if key.dataset == dataset and key.variant == variant)
    rest: list[Row] = []
    for key in others:
        if key.system == GROUND_TRUTH:
            continue
        row = _row(key.system, key, paper, found, table)
        home = next((group for group in groups if group.rows and group.rows[0].key.mode == key.mode), None)
        (home.rows if home and home.name != REAL else rest).append(row)
    if rest:
        groups.append(Group(CONTROLS, rest))


def _drift_remarks(table: Table) -> Iterator[str]:
    """How values change over the minutes of long videos, where an evaluation was asked for it (drift=5)."""
    for section, _, row, column, cell in table.cells():
        for measured in cell.measured:
            drift = measured.record.get("drift")
            if not drift or row.key.system == GROUND_TRUTH:
                continue
            where = f"{section.dataset}, {row.name}: {column.title} over windows of {drift['window_seconds']:g} s"
            if drift["slope_per_minute"] is None:
                yield f"{where} has no slope: {drift['reason']} ({measured.file})"
            else:
                interval = f"{drift['low']:.3g} to {drift['high']:.3g}"
                yield (
                    f"{where} changes by {drift['slope_per_minute']:+.3g} a minute, 95 % interval {interval} "
                    f"({len(drift['windows'])} windows, {drift['n']} clips, {measured.file})"
                )


def _agreement_remarks(table: Table) -> Iterator[str]:
    messages = set()
    for *_, column, cell in table.cells():
        for measured in cell.measured:
            agreement = measured.record.get("agreement")
            if agreement and column.metric not in messages:
                messages.add(column.metric)
                told_alpha = "is not defined, as all ratings are equal"
                if agreement["alpha"] is not None:
                    low, high = agreement["low"], agreement["high"]
                    told_alpha = f"{agreement['alpha']:.2f}, 95 % interval {low:.2f} to {high:.2f}"
                people = measured.record["network"]
                yield f"{column.title}: agreement of {people}, Krippendorff's alpha for intervals {told_alpha}"
