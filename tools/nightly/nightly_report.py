"""Reports of the nightly checks: a dated one with everything, and ``docs/results.md`` with the numbers."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from tools.nightly.measured import MeasuredCheck, mixed_code, this_environment
from tools.nightly.nightly_plan import NightlyCheck, Number
from tools.nightly.result_figures import draw_club
from tools.pipeline.display import format_duration
from tools.pipeline.run_steps import StepResult

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
HEAD = """# {title}

{about} Written by `make nightly`; do not edit. {environment}.
"""
LOSSES = """`train/loss` and `val/loss`; for V-AID the squared errors of lips and expressions instead, because its loss
is mostly the likelihood of CLUB's network.
"""
SHOWN = 60  # lines of a script's output


def full_report(checks: Sequence[NightlyCheck], results: Mapping[str, StepResult]) -> str:
    """Returns the report of the checks that ran: state, time, command, numbers and printed output."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    title, about = f"Nightly checks, {today}", "The checks that ran, each with its command, its time and its output."
    parts = [HEAD.format(title=title, about=about, environment=this_environment())]
    for part, group in groupby((check for check in checks if check.step.name in results), key=lambda check: check.part):
        parts.append(f"## {part}\n")
        parts += [_entry(check, results[check.step.name]) for check in group]
    return "\n".join(parts).rstrip() + "\n"


def results_page(checks: Sequence[NightlyCheck], results: Mapping[str, MeasuredCheck]) -> str:
    """Returns the page of results: numbers as tables, then lists of the other checks.

    Args:
        checks: All checks.
        results: Results by name of the check.
    """
    about = "Measurements of the nightly checks. Commands and full outputs: `tools/profiling/reports/`."
    about += " Checks without a number and checks without a result are listed at the end."
    environments = sorted({result.environment for result in results.values()})
    parts = [HEAD.format(title="Results", about=about, environment="; ".join(environments))]
    measured = [(check, results[check.step.name]) for check in checks if check.step.name in results]
    refused = {group: mixed_code(members) for group, members in _sets(measured).items()}
    in_table = [(check, result) for check, result in measured if check.numbers]
    for part, group in groupby(in_table, key=lambda one: one[0].part):
        rows = [row for check, result in group for row in _rows(check, result, refused[check.group])]
        head = ["| check | what | measured | wanted | when | commit |", "|---|---|---|---|---|---|"]
        parts += [f"## {part}\n", *head, *rows, ""]
        if part == "V-AID" and draw_club(results) is not None:
            parts.append("![Emotion left in the lip latents against their R², by CLUB's weight](results/club.svg)\n")
    for check, result in measured:
        if result.picture and not refused[check.group]:
            title = _capital(check.step.title)
            parts += [f"## {title}\n", f"![{title}](results/{result.picture})\n"]
    in_order = sorted(measured, key=lambda one: one[1].finished)
    tables = {result.table: result for check, result in in_order if result.table and not refused[check.group]}
    if tables:
        parts += ["## Tables of the paper\n", *(_table(tables[name]) for name in sorted(tables)), ""]
    completed = [(check, result) for check, result in measured if not check.numbers and not result.picture]
    if completed:
        parts.append("## Completed, without a number\n")
        parts += [
            f"- {check.step.title}: {format_duration(result.seconds)}, {result.finished[:10]}, {result.commit}"
            for check, result in completed
        ]
        parts.append("")
    if any(result.curves for result in results.values()):
        parts += [
            "## What loss is normal\n",
            LOSSES,
            "![Losses of the experiments over their steps](results/losses.svg)\n",
        ]
    open_checks = [check for check in checks if check.step.name not in results]
    if open_checks:
        parts += ["## Without a result\n", "Names for `python -m tools.nightly only=NAME,NAME`:\n"]
    for part, waiting in groupby(open_checks, key=lambda check: check.part):
        parts.append(f"- {part}: {', '.join(f'`{check.step.name}`' for check in waiting)}")
    return "\n".join(parts).rstrip() + "\n"


def measured_numbers(check: NightlyCheck) -> dict[str, float | None]:
    """Reads the numbers of a check from the files that it wrote; None for those that are missing."""
    found = {}
    for number in check.numbers:
        file = number.file or check.step.stdout
        assert file is not None
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found[number.words] = value_at(content, number.path)
    return found


def _sets(measured: Sequence[tuple[NightlyCheck, MeasuredCheck]]) -> dict[str, dict[str, MeasuredCheck]]:
    """Results of each set, by name of the check."""
    sets: dict[str, dict[str, MeasuredCheck]] = {}
    for check, result in measured:
        sets.setdefault(check.group, {})[check.step.name] = result
    return sets


def _entry(check: NightlyCheck, result: StepResult) -> str:
    step = check.step
    lines = [f"### {_capital(step.title)}\n", f"    {step.typed}\n", f"{_state(result)}\n"]
    if result.done:
        if check.numbers:
            lines += ["| what | measured | wanted |", "|---|---|---|"]
            values = measured_numbers(check)
            lines += [
                f"| {number.words} | {_shown(values[number.words])} | {_met(number, values[number.words])} |"
                for number in check.numbers
            ]
            lines.append("")
        elif step.stdout is not None:
            printed = _printed(step.stdout)
            lines += ["```", *printed, "```", ""]
    return "\n".join(lines)


def _rows(check: NightlyCheck, result: MeasuredCheck, refused: str) -> list[str]:
    title, when, commit = check.step.title, result.finished[:10], result.commit
    if refused:
        return [f"| {title} | {refused} | | | {when} | {commit} |"]
    rows = []
    for place, number in enumerate(check.numbers):
        value = result.numbers.get(number.words)
        first = title if place == 0 else ""
        rows.append(f"| {first} | {number.words} | {_shown(value)} | {_met(number, value)} | {when} | {commit} |")
    return rows


def _table(result: MeasuredCheck) -> str:
    values = Path(result.table).with_suffix(".csv")
    return (
        f"- [{result.table}](results/{result.table}), each value with its source in [{values}](results/{values}): "
        f"{result.finished[:10]}, {result.commit}"
    )


def _state(result: StepResult) -> str:
    if result.done:
        busy = format_duration(result.processor_seconds)
        return f"done in {format_duration(result.seconds)}, {busy} of processor time, on {result.finished[:10]}"
    return f"{result.state}: {result.reason}"


def value_at(content: Any, path: str) -> float | None:
    """Returns the number at a path such as ``lip.near1`` (``*`` is the mean of the entries that have one), or None."""
    name, _, rest = path.partition(".")
    if not path:
        return None if content is None else float(content)
    if not isinstance(content, dict):
        return None
    if name != "*":
        return value_at(content.get(name), rest)
    found = [value for value in (value_at(entry, rest) for entry in content.values()) if value is not None]
    return fmean(found) if found else None


def is_met(wanted: str, value: float) -> bool:
    """Returns whether a value satisfies a condition such as ``>= 0.7``.

    Raises:
        ValueError: If ``wanted`` is not a comparison.
    """
    match = re.fullmatch(r"(>=|<=|>|<)\s*(\S+)", wanted)
    if match is None:
        raise ValueError(f"wanted: {wanted!r}: expected a comparison such as '>= 0.7'")
    return COMPARISONS[match[1]](value, float(match[2]))


def _met(number: Number, value: float | None) -> str:
    if not number.wanted or value is None:
        return number.wanted
    return f"{number.wanted}: {'met' if is_met(number.wanted, value) else '**not met**'}"


def _capital(title: str) -> str:
    return title[0].upper() + title[1:]


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _printed(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    left = len(lines) - SHOWN
    return lines if left <= 0 else [f"({left} lines left out)", *lines[-SHOWN:]]
