"""Redraws the figures of a results folder whose inputs changed: part of ``evaluate.py table=all``.

``figures.yaml`` in the results folder lists the figures. Keys are the options of ``python -m benchmark.figures``; paths
are relative to the results folder:

    figure5.png: {figure: 5, clip: WDA_AmyKlobuchar1_002, system: [hallo=../runs/hallo/videos, ours=../out]}
    figure3.png: {figure: 3, portrait: face.png, lips: lips.mp4, expression: expression.mp4}

``drift.png`` is always added if any results have a slope over time (``drift=5``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmark.figures.__main__ import FIGURES, draw, needed, picture, save
from configs.options import named_paths, path
from evaluation.pairs import EvaluationError, find_videos
from runtime.errors import UserError
from runtime.files import sha256_of, write_whole
from runtime.json_text import read_json
from runtime.ownership import claim

LIST = "figures.yaml"
RECORD = ".figures.json"  # name -> digest of a figure's inputs, and hash of its file
DRIFT = "drift.png"
SINGLE = ("portrait", "lips", "expression", "with_dicte", "without_dicte", "driving")  # options with one file


@dataclass(frozen=True)
class FigureResult:
    """State of one figure.

    Attributes:
        name: File name.
        state: written, up to date, or not made.
        reason: Reason if it was not made.
    """

    name: str
    state: str
    reason: str = ""


def rebuild_figures(results: Path, output: Path) -> list[FigureResult]:
    """Draws the figures whose inputs changed.

    Args:
        results: Folder of results files, optionally with ``figures.yaml``.
        output: Folder of the figures.

    Raises:
        UserError: If the list cannot be read.
        OSError: If the output cannot be written.
    """
    record, made = _read_record(output / RECORD), {}
    found = []
    for name, entry in _wanted(results).items():
        try:
            options = _options(name, entry, results, output)
            made_of, file = _digest(options), output / name
            if file.is_file() and record.get(name) == {"made_of": made_of, "sha256": sha256_of(file)}:
                found.append(FigureResult(name, "up to date"))
            else:
                save(draw(options), file)
                found.append(FigureResult(name, "written"))
            made[name] = {"made_of": made_of, "sha256": sha256_of(file)}
        except (UserError, ValueError) as error:
            found.append(FigureResult(name, "not made", str(error)))
    if made != record:
        claim(output, [RECORD], f"output={output}")
        write_whole(output / RECORD, json.dumps(made, indent=1) + "\n")
    return found


def _wanted(results: Path) -> dict[str, Any]:
    """Returns file name -> entry of the list, for every figure."""
    listed = results / LIST
    try:
        wanted = (yaml.safe_load(listed.read_text(encoding="utf-8")) if listed.is_file() else {}) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{listed}: cannot be read as YAML ({error})") from error
    if not isinstance(wanted, dict):
        raise UserError(f"{listed}: expected names of figures with their options, e.g. figure5.png: {{figure: 5, ...}}")
    for name, entry in wanted.items():
        if not isinstance(entry, Mapping) or "figure" not in entry:
            raise UserError(f"{listed}: {name}: expected options with figure: {', '.join(FIGURES)}")
    if drifting := [file.name for file in sorted(results.glob("*.json")) if _has_drift(file)]:
        wanted = {DRIFT: {"figure": "drift", "files": drifting}, **wanted}
    return {str(name): entry for name, entry in wanted.items()}


def _options(name: str, entry: Any, results: Path, output: Path) -> dict[str, Any]:
    """Parses the options of a figure as the command line does."""
    if Path(name).name != name:
        raise UserError(f"{name}: expected a file name without a folder")
    options: dict[str, Any] = {"figure": str(entry["figure"]), "output": picture(output / name)}
    if options["figure"] not in FIGURES:
        raise UserError(f"figure={options['figure']}: expected one of {', '.join(FIGURES)}")
    known = FIGURES[options["figure"]]
    for key, value in entry.items():
        key, several = str(key).replace("-", "_"), value if isinstance(value, list) else [value]
        if key == "files":
            options[key] = [results / str(one) for one in several]
        elif key == "system":
            options[key] = {title: results / place for title, place in named_paths(",".join(map(str, several))).items()}
        elif key in known:
            options[key] = str(value) if key == "clip" else results / path(str(value))
        elif key != "figure":
            raise UserError(f"{key}: unknown option of figure {options['figure']}; expected one of {', '.join(known)}")
    if lacking := [key for key in needed(options["figure"]) if key not in options]:
        raise UserError(f"figure {options['figure']} needs also {', '.join(lacking)}")
    return options


def _digest(options: Mapping[str, Any]) -> str:
    """Hash of the options, of the content of all inputs, and of the code that draws."""
    code = {str(file.name): sha256_of(file) for file in sorted(Path(__file__).parent.glob("*.py"))}
    shown = {str(path): sha256_of(path) if path.is_file() else None for path in _inputs(options)}
    return hashlib.sha256(json.dumps([options, shown, code], sort_keys=True, default=str).encode()).hexdigest()


def _inputs(options: Mapping[str, Any]) -> Iterator[Path]:
    yield from (options[name] for name in SINGLE if name in options)
    yield from options.get("files", ())
    for place in options.get("system", {}).values():
        if place.is_dir():
            try:
                yield from find_videos(place).get(options["clip"], [])
            except EvaluationError:
                continue  # reported when the figure is drawn
        else:
            yield place


def _has_drift(path: Path) -> bool:
    """Returns whether a file is a results file with a slope. Damaged files are reported with the tables."""
    try:
        metrics = read_json(path)["metrics"]
        return any((record.get("drift") or {}).get("slope_per_minute") is not None for record in metrics.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = read_json(path)
        return record if isinstance(record, dict) else {}
    except (OSError, ValueError):
        return {}
