"""Places measured values in the rows and columns of one of the paper's tables. Missing values get a reason."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from benchmark.paper import CellKey, PaperTable
from benchmark.tables.comparability import (
    compare_rows,
    signature,
    warn_of_copies,
    warn_of_protocols,
)
from benchmark.tables.reading import GROUND_TRUTH, FoundResults, Measured, columns
from benchmark.tables.table import CONTROLS, REAL, Cell, Group, Row, Section, Table, half_interval


def lay_out(paper: PaperTable, found: FoundResults, datasets: Sequence[str] = ()) -> Table:
    """Lays out a table.

    Args:
        paper: Rows, columns and printed values of the paper.
        found: Content of the results folder.
        datasets: Datasets that replace the paper's.
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
    warn_of_copies(table)
    for section in table.sections:
        for group in section.groups:
            if paper.best and group.name not in (REAL, CONTROLS):
                compare_rows(section, group, table)
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
        cells[metric] = replace(cell, paper=paper.values.get((key, metric)), digits=columns()[metric].digits)
    return Row(name, key, cells)


def _cell(key: CellKey, metric: str, found: FoundResults, table: Table) -> Cell:
    rows = found.measured.get((key, metric), []) + found.measured.get(
        (key, columns()[metric].family), []
    )  # the second lookup finds families that failed as a whole
    values = [row for row in rows if row.value is not None]
    if not values:
        return Cell(notes=[table.note(reason) for reason in _reasons(key, rows, found)])
    values, copies = _without_copies(values)
    by_run: defaultdict[int, list[Measured]] = defaultdict(list)
    for row in values:
        by_run[row.run].append(row)
    twice = [rows for rows in by_run.values() if len(rows) > 1]
    if twice:
        files = " and ".join(row.file for row in twice[0])
        reason = (
            f"{files} are two results for one cell ({_named(key)}, run {twice[0][0].run}); remove one, or give them "
            "different values of cell.run"
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
    obstacles = [text for row in values for text in (_self_check(row), _sizes(row)) if text]
    obstacles = list(dict.fromkeys([*obstacles, *_lacking_runs(key, metric, values, found)]))
    notes += [table.note(text) for text in (*copies, *obstacles)]
    return Cell(
        obstacles=obstacles,
        value=statistics.fmean(numbers),
        half=half_interval(numbers),
        measured=values,
        official=all(row.record["official"] for row in values),
        notes=sorted(set(notes)),
    )


def _without_copies(rows: Sequence[Measured]) -> tuple[list[Measured], list[str]]:
    """Separates the rows of one cell from copies of them: results of the same generated videos."""
    kept: list[Measured] = []
    texts = []
    for row in rows:
        original = next((other for other in kept if _is_copy(row, other)), None)
        if original is None:
            kept.append(row)
        else:
            texts.append(
                f"{row.file} (run {row.run}) has the generated videos of {original.file} (run {original.run}); they "
                "are counted as one run"
            )
    return kept, texts


def _is_copy(row: Measured, other: Measured) -> bool:
    """Whether two results are of the same videos; the same run with another value is a conflict, not a copy."""
    common = row.clips.keys() & other.clips.keys()
    if not common or (row.run == other.run and (row.value, signature(row)) != (other.value, signature(other))):
        return False
    return 2 * sum(row.clips[clip].generated == other.clips[clip].generated for clip in common) > len(common)


def _lacking_runs(key: CellKey, metric: str, values: Sequence[Measured], found: FoundResults) -> Iterator[str]:
    """Describes runs of a cell without this value: a mean of the others would hide them."""
    runs: Mapping[int, Sequence[str]] = found.files.get(key, {})
    have = {row.run for row in found.measured.get((key, metric), []) if row.value is not None}
    lacking = sorted(runs.keys() - have)
    if lacking:
        listed = "; ".join(f"run {run}, {' and '.join(runs[run])}" for run in lacking)
        title = columns()[metric].title
        yield f"{len(values)} of {len(values) + len(lacking)} runs: no {title} of {listed}"


def _self_check(row: Measured) -> str | None:
    check = row.record.get("self_check")
    if not isinstance(check, dict) or check.get("passed"):
        return None
    return (
        f"the network failed its self-check on the real videos ({check.get('found')} of {check.get('videos')}): "
        "its values do not measure synchrony"
    )


def _sizes(row: Measured) -> str | None:
    """Describes generated pictures of another size than the real ones, on which FID and FVD depend."""
    sizes = [clip.sizes for clip in row.clips.values() if clip.sizes and clip.sizes[0] != clip.sizes[1]]
    if not sizes:
        return None
    (width, height), (real_width, real_height) = sizes[0]
    return (
        f"generated {width} x {height}, real {real_width} x {real_height} pixels in {len(sizes)} of {len(row.clips)} "
        "clips"
    )


def _reasons(key: CellKey, rows: Iterable[Measured], found: FoundResults) -> Iterator[str]:
    found_reasons = [f"not computed: {row.reason} ({row.file})" for row in rows if row.reason]
    found_reasons += [f"{reason} ({file})" for file, reason in found.reasons.get(key, [])]
    if not found_reasons and any(other == key for other, _ in found.measured):
        found_reasons = ["not among the metrics that were evaluated; evaluate again with it in metrics"]
    if found_reasons:
        yield from dict.fromkeys(found_reasons)
    elif key.dataset == "user_study":
        yield "not run: no user study in the results folder includes it (python -m benchmark.user_study collect)"
    else:
        yield "not run: no results file of the folder names this cell (cell.system, cell.dataset, cell.mode)"


def _named(key: CellKey) -> str:
    return f"{key.system}, {key.mode}, {key.dataset}, {key.variant}"


def _truth_cell(key: CellKey, metric: str, found: FoundResults, table: Table) -> Cell:
    """Value of the real videos: from their own evaluation, or from the evaluations that scored them as reference."""
    column = columns()[metric]
    if not column.family:
        return Cell()  # FID, FVD and E-FID compare with the real videos, so these have no value
    if found.measured.get((key, metric)):
        return _cell(key, metric, found, table)
    dataset = key.dataset
    best: tuple[int, float, Measured] | None = None
    seen: dict[float, int] = {}
    for (other, name), rows in found.measured.items():
        if other.dataset != dataset or name != metric:
            continue
        for row in rows:
            truth = row.record.get("ground_truth")
            if not isinstance(truth, dict) or truth.get("value") is None:
                continue
            seen[round(truth["value"], 6)] = truth["n"]
            if best is None or truth["n"] > best[0]:
                best = truth["n"], truth["value"], row
    if best is None:
        return Cell(notes=[table.note("no evaluation of this dataset scored the real videos")])
    count, value, row = best
    if len(seen) > 1:
        spread = " to ".join(f"{number:.4g} (n {seen[number]})" for number in (min(seen), max(seen)))
        table.warnings.append(
            f"{dataset}: the real videos' {column.title} is {spread}, depending on the results file: under "
            "different protocols, of different clips or in different framings; an evaluation of the real videos "
            "themselves (cell.system=ground_truth cell.mode=A+V) takes precedence"
        )
    record = {**row.record, "n": count, "expected": row.record["ground_truth"]["expected"], "interval": None}
    return Cell(value=value, measured=[replace(row, value=value, record=record)], official=bool(record["official"]))


def _add_other_systems(groups: list[Group], dataset: str, paper: PaperTable, found: FoundResults, table: Table) -> None:
    """Adds systems that are not in the paper: to the group of their mode, or to a group of their own."""
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
    """Describes how values change over the minutes of long videos, for evaluations with drift=5."""
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
    described = set()
    for *_, column, cell in table.cells():
        for measured in cell.measured:
            agreement = measured.record.get("agreement")
            if agreement and column.metric not in described:
                described.add(column.metric)
                alpha = "is not defined, as all ratings are equal"
                if agreement["alpha"] is not None:
                    low, high = agreement["low"], agreement["high"]
                    alpha = f"{agreement['alpha']:.2f}, 95 % interval {low:.2f} to {high:.2f}"
                people = measured.record["network"]
                within = " within each system" if "of" in agreement else ""
                yield f"{column.title}: agreement of {people}{within}, Krippendorff's alpha for intervals {alpha}"
