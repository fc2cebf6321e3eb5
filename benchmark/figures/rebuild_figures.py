"""The figures of a results folder, made anew where something they show has changed: part of ``evaluate.py table=all``.

``figures.yaml`` beside the results lists them, with the options of ``python -m benchmark.figures`` as keys and paths
relative to the results folder:

    figure5.png: {figure: 5, clip: WDA_AmyKlobuchar1_002, system: [hallo=../runs/hallo/videos, ours=../out]}
    figure3.png: {figure: 3, portrait: face.png, lips: lips.mp4, expression: expression.mp4}

Whatever the file says, ``drift.png`` shows the results with a slope over time (``drift=5``), if there are any.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from benchmark.figures.__main__ import draw, parser, save
from benchmark.figures.frames import FigureError
from evaluation.pairs import EvaluationError, find_videos
from runtime.files import sha256_of, write_whole

LIST = "figures.yaml"
RECORD = ".figures.json"  # name -> what a figure was made of, and what came of it
DRIFT = "drift.png"
SINGLE = ("portrait", "lips", "expression", "with_dicte", "without_dicte", "driving")  # options that name one file


@dataclass(frozen=True)
class Done:
    """What became of a figure.

    Attributes:
        name: of its file.
        state: written, up to date, or not made.
        reason: why it was not made.
    """

    name: str
    state: str
    reason: str = ""


class _Options(argparse.ArgumentParser):
    """The figures' own options, whose mistakes are errors of the list."""

    def error(self, message: str) -> NoReturn:
        """Raises instead of ending the program."""
        raise FigureError(message)


def rebuild_figures(results: Path, output: Path) -> list[Done]:
    """Makes the figures whose inputs changed.

    Args:
        results: folder of results files, and of ``figures.yaml`` where there is one.
        output: where figures go.

    Raises:
        FigureError: if the list cannot be read.
        OSError: if the output cannot be written.
    """
    record, made = _read_record(output / RECORD), {}
    found = []
    for name, words in _wanted(results).items():
        try:
            options = _options(name, words, output)
            made_of = _digest(words, options)
            path = output / name
            if path.is_file() and record.get(name) == {"made_of": made_of, "sha256": sha256_of(path)}:
                found.append(Done(name, "up to date"))
            else:
                save(draw(options), path)
                found.append(Done(name, "written"))
            made[name] = {"made_of": made_of, "sha256": sha256_of(path)}
        except FigureError as error:
            found.append(Done(name, "not made", str(error)))
    if made != record:
        write_whole(output / RECORD, json.dumps(made, indent=1) + "\n")
    return found


def _wanted(results: Path) -> dict[str, list[str]]:
    """File name of a figure -> the words a person would type for it."""
    path = results / LIST
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FigureError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(listed or {}, dict):
        raise FigureError(f"{path}: expected names of figures with their options, e.g. figure5.png: {{figure: 5, ...}}")
    wanted = {str(name): _words(name, entry, results) for name, entry in (listed or {}).items()}
    if drifting := [file for file in sorted(results.glob("*.json")) if _has_drift(file)]:
        wanted.setdefault(DRIFT, ["drift", *map(str, drifting)])
    return wanted


def _words(name: object, entry: object, results: Path) -> list[str]:
    if not isinstance(entry, Mapping) or "figure" not in entry:
        raise FigureError(f"{results / LIST}: {name}: expected options with figure: 3, 4, 5, 6 or drift")
    words, last = [str(entry["figure"])], []
    for key, value in entry.items():
        for one in value if isinstance(value, list) else [value]:
            if key == "files":
                last.append(str(results / str(one)))
            elif key == "system":
                title, equals, place = str(one).partition("=")
                words.append(f"--system={title}{equals}{results / Path(place).expanduser()}")
            elif key != "figure":
                path = results / Path(str(one)).expanduser() if str(key).replace("-", "_") in SINGLE else one
                words.append(f"--{key}={path}")
    return [*words, *last]


def _options(name: str, words: list[str], output: Path) -> argparse.Namespace:
    if Path(name).name != name:
        raise FigureError(f"{name}: expected the name of a file, without a folder")
    options = parser(_Options).parse_args([*words, f"--output={output / name}"])
    assert isinstance(options, argparse.Namespace)
    return options


def _digest(words: list[str], options: argparse.Namespace) -> str:
    """Of the options, the content of everything that is shown, and the code that draws it."""
    code = {str(file.name): sha256_of(file) for file in sorted(Path(__file__).parent.glob("*.py"))}
    shown = {str(path): sha256_of(path) if path.is_file() else None for path in _inputs(options)}
    return hashlib.sha256(json.dumps([words, shown, code], sort_keys=True).encode()).hexdigest()


def _inputs(options: argparse.Namespace) -> Iterator[Path]:
    values = vars(options)
    yield from (values[name] for name in SINGLE if values.get(name) is not None)
    yield from values.get("files") or ()
    for text in values.get("system") or ():
        place = Path(text.partition("=")[2])
        if place.is_dir():
            try:
                yield from find_videos(place).get(options.clip, [])
            except EvaluationError:
                continue  # said where it is drawn
        else:
            yield place


def _has_drift(path: Path) -> bool:
    """Whether it is a results file with a slope; what is wrong with others is said where tables are made."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
        return any((record.get("drift") or {}).get("slope_per_minute") is not None for record in metrics.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}
