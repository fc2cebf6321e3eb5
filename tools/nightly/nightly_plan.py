"""``commands.yaml`` as steps of a chain."""

from __future__ import annotations

import itertools
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tools.pipeline.step import Step

PRINTS = {"json": ".json", "text": ".txt"}
KEYS = {"name", "part", "shows", "command", "reads", "writes", "print", "numbers", "each", "accepted"}


@dataclass(frozen=True)
class Number:
    """A number that a check found.

    Attributes:
        words: what it is.
        path: its place in the JSON, with dots; ``*`` is the first entry.
        wanted: e.g. ``>= 0.7``; empty where nothing is.
        file: the JSON file; None for what the check prints.
    """

    words: str
    path: str
    wanted: str = ""
    file: Path | None = None


@dataclass(frozen=True)
class NightlyCheck:
    """A step, and what the report says of it."""

    step: Step
    part: str
    numbers: tuple[Number, ...] = ()


def read_checks(folder: Path, videos: Path | None = None, clip: Path | None = None) -> list[NightlyCheck]:
    """The checks.

    Args:
        folder: where they write.
        videos: a folder of real talking videos; checks that need it wait without it.
        clip: a folder with one clip that ETHD learns by heart.

    Raises:
        ValueError: if an entry is not as the head of ``commands.yaml`` says.
    """
    places = {"folder": folder, "videos": videos or Path("VIDEOS"), "clip": clip or Path("CLIP")}
    text = (resources.files(__package__) / "commands.yaml").read_text(encoding="utf-8")
    checks = [
        _nightly_check(entry, {**{name: str(path) for name, path in places.items()}, **values}, folder)
        for entry in yaml.safe_load(text)
        for values in _combinations(entry)
    ]
    names = [check.step.name for check in checks]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"commands.yaml: two checks are named {', '.join(sorted(twice))}")
    return checks


def _combinations(entry: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    if unknown := entry.keys() - KEYS:
        raise ValueError(f"commands.yaml, {entry.get('name')}: there is no key {', '.join(sorted(unknown))}")
    choices = entry.get("each", {})
    for values in itertools.product(*choices.values()):
        yield dict(zip(choices, map(str, values), strict=True))


def _nightly_check(entry: Mapping[str, Any], values: Mapping[str, str], folder: Path) -> NightlyCheck:
    name = entry["name"].format(**values)
    # Split before places are filled in: they may hold spaces.
    command = tuple(word.format(**values) for word in shlex.split(entry["command"]))
    stdout = folder / f"{name}{PRINTS[entry['print']]}" if "print" in entry else None
    reads, writes = (tuple(Path(one.format(**values)) for one in entry.get(key, ())) for key in ("reads", "writes"))
    step = Step(
        name, entry["shows"].format(**values), command, reads, writes, stdout, (0, *entry.get("accepted", ()))
    )  # fmt: skip
    numbers = []
    for words, number in entry.get("numbers", {}).items():
        file = Path(number["file"].format(**values)) if "file" in number else None
        numbers.append(Number(words, number["path"], number.get("wanted", ""), file))
    return NightlyCheck(step, entry["part"], tuple(numbers))
