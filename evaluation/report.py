"""Printed report of an evaluation: the table of values, warnings and missing videos."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.pairs import Missing
from evaluation.results import Results, Value

NUMBERS = re.compile(r"\d+(\.\d+)?")
ARROWS = {"lower": "↓", "higher": "↑"}
SHOWN = 10  # missing videos printed; the results file lists all


def print_results(console: Console, results: Results) -> None:
    """Prints the table, warnings, metrics that were not computed, and missing videos."""
    console.print(metric_table(results))
    for text in deviations(results.clips):
        console.print(f"[yellow]deviates[/]: {escape(text)}", soft_wrap=True)
    for warning, titles in _by_warning(results).items():
        console.print(f"[yellow]{', '.join(titles)}[/]: {escape(warning)}", soft_wrap=True)
    for name, reason in results.not_computed.items():
        console.print(f"[red]{name} not computed[/]: {escape(reason)}", soft_wrap=True)
    for row in results.missing[:SHOWN]:
        console.print(f"[red]missing[/] {escape(missing_line(row))}", soft_wrap=True)
    if len(results.missing) > SHOWN:
        console.print(f"and {len(results.missing) - SHOWN} more; the results file lists all")


def deviations(clips: Sequence[Mapping[str, object]]) -> list[str]:
    """Lists what was changed for the comparison and changes the values: sizes, trims, frame rates, encodings.

    Args:
        clips: Clips of a results file; notes that differ in their numbers only are counted together.

    Returns:
        One text per kind of note, with an example and the number of clips.
    """
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for clip in clips:
        for note in clip.get("notes", ()):  # type: ignore[attr-defined]
            kinds[NUMBERS.sub("#", str(note))].append(str(note))
    return [
        f"{found[0]}{'' if len(set(found)) == 1 else ', and others alike'}: {len(found)} of {len(clips)} clips"
        for found in kinds.values()
    ]


def metric_table(results: Results) -> Table:
    """Builds the table of values with intervals and number of clips, with the values of real videos below."""
    table = Table(title=f"{len(results.clips)} of {results.expected} clips", title_justify="left")
    for column in ("", "value", "95 % at this n", "clips", "compared", "network"):
        table.add_column(column, justify="right" if column == "value" else "left", overflow="fold")
    for value in results.values:
        table.add_row(*_row(value))
        if (floor := value.extra.get("floor")) is not None:
            table.add_row("  floor: real videos at both starts", f"{floor:.4g}", "", "", "", "")
        if isinstance(unbiased := value.extra.get("without_bias"), dict):
            table.add_row("  extrapolated to infinitely many clips", f"{unbiased['value']:.4g}", "", "", "", "")
        truth = value.extra.get("ground_truth")
        if isinstance(truth, dict):
            number = "-" if truth["value"] is None else f"{truth['value']:.3f}"
            table.add_row("  real videos", number, "", f"{truth['n']} of {truth['expected']}", "", "")
    for name, reason in results.not_computed.items():
        table.add_row(name, "-", "", "", "", f"not computed: {escape(reason.splitlines()[0])}")
    return table


def _by_warning(results: Results) -> dict[str, list[str]]:
    """Groups the metrics by warning."""
    found: dict[str, list[str]] = {}
    for value in results.values:
        for warning in value.warnings:
            found.setdefault(warning, []).append(value.title)
    return found


def _row(value: Value) -> tuple[str, ...]:
    interval = f"{value.interval.low:.4g} to {value.interval.high:.4g}" if value.interval else ""
    samples = " / ".join(f"{count}" for count in value.samples.values())
    main = value.sources[0]
    official = "" if value.official else ", not official"
    return (
        f"{value.title}{ARROWS[value.better]}",
        f"{round(value.value, 4) + 0.0:.4f}",  # + 0.0 turns -0.0 into 0.0
        interval,
        f"{value.clips} of {value.expected}",
        f"{samples} {value.unit}",
        escape(f"{main.network} {main.sha256[:8]}{official}"),
    )


def missing_line(row: Missing) -> str:
    """Formats a missing video: clip, side, metric and reason."""
    metric = f" for {row.metric}" if row.metric else ""
    return f"{row.clip} ({row.side}){metric}: {row.reason}"
