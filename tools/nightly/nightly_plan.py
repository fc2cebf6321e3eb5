"""Reads ``commands.yaml`` as steps of a chain."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tools.pipeline.precision import cpu_precision
from tools.pipeline.step import Step

PRINTS = {"json": ".json", "text": ".txt"}
KEYS = {
    *("name", "part", "cores", "set", "code", "shows", "command", "reads", "writes", "print"),
    *("numbers", "each", "accepted", "figure", "picture", "table"),
}


@dataclass(frozen=True)
class Number:
    """A number that a check measures.

    Attributes:
        words: Description.
        path: Path in the JSON, separated by dots; ``*`` is the mean of all entries.
        wanted: Condition such as ``>= 0.7``; empty if there is none.
        file: JSON file; None for the output of the check.
    """

    words: str
    path: str
    wanted: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class NightlyCheck:
    """A check.

    Attributes:
        step: Its step.
        part: Section of the report.
        numbers: What it measures.
        group: Set of checks whose results are shown together only if they come from the same code.
        code: Files and folders that decide its result.
        figure: Title of its panel in the figure of losses; empty for none.
        picture: Picture that it writes for the page of results; None for none.
        table: Table of the paper that it writes in Markdown, with a CSV file next to it; None for none.
    """

    step: Step
    part: str
    numbers: tuple[Number, ...] = ()
    group: str = ""
    code: tuple[str, ...] = ()
    figure: str = ""
    picture: Path | None = None
    table: Path | None = None


def read_checks(folder: Path, videos: Path | None = None, clip: Path | None = None) -> list[NightlyCheck]:
    """Reads the checks.

    Args:
        folder: Output folder.
        videos: Folder of real talking-head videos; checks that need it are skipped without it.
        clip: Folder with one clip that ETHD is overfitted to.

    Raises:
        ValueError: If an entry is not as described at the top of ``commands.yaml``.
    """
    paths = {"folder": folder, "videos": videos or Path("VIDEOS"), "clip": clip or Path("CLIP")}
    places = {name: str(path) for name, path in paths.items()} | {"precision": cpu_precision()}
    listed = yaml.safe_load((resources.files(__package__) / "commands.yaml").read_text(encoding="utf-8"))
    checks = [
        _nightly_check(entry, {**places, **values}, folder, listed["code"])
        for entry in listed["checks"]
        for values in _combinations(entry)
    ]
    names = [check.step.name for check in checks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"commands.yaml: two checks are named {', '.join(sorted(twice))}")
    return checks


def _combinations(entry: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if unknown := entry.keys() - KEYS:
        known = ", ".join(sorted(KEYS))
        raise ValueError(
            f"commands.yaml, {entry.get('name')}: unknown key {', '.join(sorted(unknown))}; expected {known}"
        )
    choices = entry.get("each", {})
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, map(str, values), strict=True))


def _nightly_check(
    entry: Mapping[str, Any], values: Mapping[str, str], folder: Path, code: Mapping[str, str]
) -> NightlyCheck:
    name = entry["name"].format(**values)
    # Split before the paths are filled in, because they may contain spaces.
    command = tuple(word.format(**values) for word in shlex.split(entry["command"]))
    stdout = folder / f"{name}{PRINTS[entry['print']]}" if "print" in entry else None
    reads, writes = (tuple(Path(one.format(**values)) for one in entry.get(key, ())) for key in ("reads", "writes"))
    step = Step(
        name,
        entry["shows"].format(**values),
        command,
        reads,
        writes,
        stdout,
        (0, *entry.get("accepted", ())),
        cores=entry.get("cores"),
    )
    numbers = []
    for words, number in entry.get("numbers", {}).items():
        file = Path(number["file"].format(**values)) if "file" in number else None
        numbers.append(Number(words, number["path"], number.get("wanted", ""), file))
    part, figure = entry["part"], entry.get("figure", "").format(**values)
    if part not in code:
        raise ValueError(f"commands.yaml, {name}: part {part} has no entry in code; it has {', '.join(code)}")
    group, decisive = entry.get("set", entry["name"]), tuple(entry.get("code", code[part]).split())
    picture, table = (Path(entry[key].format(**values)) if key in entry else None for key in ("picture", "table"))
    return NightlyCheck(step, part, tuple(numbers), group, decisive, figure, picture, table)
