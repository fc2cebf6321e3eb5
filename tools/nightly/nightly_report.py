"""Reports of the nightly checks: a dated one with everything, and ``docs/results.md`` with the numbers."""

from __future__ import annotations

import json
import operator
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from tools.nightly.nightly_plan import Number, Proof
from tools.pipeline.clock import told
from tools.pipeline.run_steps import Outcome

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
HEAD = """# {title}

{about} Written by `make prove`; do not edit. Python {python}, torch {torch}, {machine} with {cores} cores.

"""
SHOWN = 60  # lines of a script's output


def full_report(proofs: Sequence[Proof], outcomes: Mapping[str, Outcome]) -> str:
    """Returns the report of all checks: state, time, command, numbers and printed output."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    parts = [_head(f"Nightly checks, {today}", "Every check with its command, its time and its output.")]
    for part, group in groupby(proofs, key=lambda proof: proof.part):
        parts.append(f"## {part}\n")
        for proof in group:
            parts.append(_entry(proof, outcomes.get(proof.step.name)))
    return "\n".join(parts).rstrip() + "\n"


def results_page(proofs: Sequence[Proof], outcomes: Mapping[str, Outcome]) -> str:
    """Returns the page of results: numbers and failures as tables, then lists of the other checks."""
    about = "Measurements of the nightly checks. Commands and full outputs: `tools/profiling/reports/`."
    parts = [_head("Results", f"{about} Checks without a number and checks that have not run are listed at the end.")]
    ran = [(proof, outcomes[proof.step.name]) for proof in proofs if proof.step.name in outcomes]
    in_table = [(proof, outcome) for proof, outcome in ran if proof.numbers or not outcome.done]
    for part, group in groupby(in_table, key=lambda one: one[0].part):
        rows = [row for proof, outcome in group for row in _rows(proof, outcome)]
        parts += [f"## {part}\n", "| proof | what | measured | wanted | when |", "|---|---|---|---|---|", *rows, ""]
    completed = [(proof, outcome) for proof, outcome in ran if (proof, outcome) not in in_table]
    if completed:
        parts.append("## Completed, without a number\n")
        parts += [
            f"- {proof.step.title}: {told(outcome.seconds)}, {outcome.finished[:10]}" for proof, outcome in completed
        ]
        parts.append("")
    open_checks = [proof for proof in proofs if proof.step.name not in outcomes]
    if open_checks:
        parts += ["## Not run yet\n", "Names for `python -m tools.nightly only=NAME,NAME`:\n"]
    for part, waiting in groupby(open_checks, key=lambda proof: proof.part):
        parts.append(f"- {part}: {', '.join(f'`{proof.step.name}`' for proof in waiting)}")
    return "\n".join(parts).rstrip() + "\n"


def _head(title: str, about: str) -> str:
    return HEAD.format(
        title=title,
        about=about,
        python=platform.python_version(),
        torch=version("torch"),
        machine=platform.machine(),
        cores=os.cpu_count(),
    )


def _entry(proof: Proof, outcome: Outcome | None) -> str:
    step = proof.step
    lines = [f"### {step.title[0].upper()}{step.title[1:]}\n", f"    {step.typed}\n", f"{_state(outcome)}\n"]
    if outcome and outcome.done:
        if proof.numbers:
            lines += ["| what | measured | wanted |", "|---|---|---|"]
            lines += [
                f"| {number.words} | {_shown(value)} | {_met(number, value)} |" for number, value in _values(proof)
            ]
            lines.append("")
        elif step.stdout is not None:
            printed = _printed(step.stdout)
            lines += ["```", *printed, "```", ""]
    return "\n".join(lines)


def _rows(proof: Proof, outcome: Outcome) -> list[str]:
    title = proof.step.title
    if not outcome.done:
        return [f"| {title} | {_state(outcome)} | | | |"]
    when = outcome.finished[:10]
    return [
        f"| {title if place == 0 else ''} | {number.words} | {_shown(value)} | {_met(number, value)} | {when} |"
        for place, (number, value) in enumerate(_values(proof))
    ]


def _state(outcome: Outcome | None) -> str:
    if outcome is None:
        return "not run yet"
    if outcome.done:
        busy = told(outcome.processor_seconds)
        return f"done in {told(outcome.seconds)}, {busy} of processor time, on {outcome.finished[:10]}"
    return f"{outcome.state}: {outcome.reason}"


def _values(proof: Proof) -> list[tuple[Number, float | None]]:
    found = []
    for number in proof.numbers:
        file = number.file or proof.step.stdout
        assert file is not None
        content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        found.append((number, value_at(content, number.path)))
    return found


def value_at(content: Any, path: str) -> float | None:
    """Returns the number at a path such as ``lip.near1`` (``*`` is the first entry), or None."""
    for name in path.split("."):
        if not isinstance(content, dict) or not content:
            return None
        content = next(iter(content.values())) if name == "*" else content.get(name)
    return None if content is None else float(content)


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


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _printed(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
    left = len(lines) - SHOWN
    return lines if left <= 0 else [f"({left} lines left out)", *lines[-SHOWN:]]
