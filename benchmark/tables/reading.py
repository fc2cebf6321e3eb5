"""Reads results files and sorts their values into cells. Files that cannot be used are listed with the reason.

emotivetalk.evaluation/1   written by evaluate.py; ``settings.cell`` names the cell
emotivetalk.user_study/1   written by ``python -m benchmark.user_study collect``
emotivetalk.drift/1        written by ``python -m benchmark.figures drift``
emotivetalk.not_run/1      ``{"schema": ..., "rows": [{"system", "dataset", "mode", "reason"}]}``, written by
                           ``python -m benchmark.not_run`` or by hand
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmark.paper import FULL, CellKey
from benchmark.user_study.design import LEVELS, QUESTIONS
from configs.registries import METRICS
from evaluation.results import SCHEMA as EVALUATION
from evaluation.results import Column
from runtime.errors import UserError
from runtime.files import read_regular
from runtime.json_text import MOST, parse_json

USER_STUDY = "emotivetalk.user_study/1"
NOT_RUN = "emotivetalk.not_run/1"
RATED = "rated"  # mode of the user study's cells
GROUND_TRUTH = "ground_truth"
ROUNDING = 1e-6  # a Fréchet distance of equal sets may be slightly negative


@dataclass(frozen=True)
class ScoredClip:
    """One clip of one metric.

    Attributes:
        reference: SHA-256 of the real video.
        generated: SHA-256 of the generated video.
        first: First compared frame of the real video.
        frames: Number of compared frames; 0 if the file does not say.
        sizes: Width and height of the compared pictures, generated and real; None if the file does not say.
        encodings: How the generated and the real video were encoded again, or None.
        entry: The metric's entry of the clip.
    """

    reference: str
    generated: str
    first: int = 0
    frames: int = 0
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    encodings: tuple[str | None, str | None] = (None, None)
    entry: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """One metric of one results file.

    Attributes:
        file: Name of the results file.
        run: Training run or seed.
        value: Value, or None if it was not computed.
        reason: Reason why it was not computed.
        record: Entry of the metric in the file.
        settings: Settings of the evaluation.
        clips: Clips in the value, by name.
        offsets: Frames by which the sound leads the picture, one per clip that Sync scored.
    """

    file: str
    run: int
    value: float | None
    reason: str | None
    record: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    clips: Mapping[str, ScoredClip] = field(default_factory=dict)
    offsets: tuple[int, ...] = ()


@dataclass
class FoundResults:
    """Content of a results folder.

    Attributes:
        measured: Values by cell and metric, in the order of file names.
        reasons: Cell -> reasons why it has no value, with their files.
        unusable: File -> reason why it cannot be used; these need to be fixed.
        files: Cell -> run -> files of evaluations.
        unlabelled: Evaluations that name no cell; this is not an error.
        hashes: File -> SHA-256 of its bytes.
    """

    measured: defaultdict[tuple[CellKey, str], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    reasons: defaultdict[CellKey, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    unusable: dict[str, str] = field(default_factory=dict)
    files: defaultdict[CellKey, defaultdict[int, list[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    unlabelled: list[str] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)


def read_results(folder: Path) -> FoundResults:
    """Reads every ``*.json`` of a folder.

    Raises:
        UserError: If the folder does not exist or cannot be read.
    """
    if not folder.is_dir():
        kind = "is a file" if folder.exists() else "does not exist"
        raise UserError(f"results={folder}: {kind}; expected the folder of evaluate.py's results files")
    found = FoundResults()
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_regular(path, MOST)
            found.hashes[path.name] = hashlib.sha256(content).hexdigest()
            _sort_in(path.name, parse_json(content), found)
        except OSError as error:
            found.unusable[path.name] = f"cannot be read ({error.strerror})"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            detail = f"no {error.args[0]!r} where one is expected" if isinstance(error, KeyError) else str(error)
            found.unusable[path.name] = f"is damaged or was edited ({detail}); make it again"
    return found


def _sort_in(name: str, raw: Any, found: FoundResults) -> None:
    schema = raw.get("schema") if isinstance(raw, dict) else None
    readers: dict[Any, Callable[[str, Mapping[str, Any], FoundResults], None]] = {
        EVALUATION: _evaluation,
        USER_STUDY: _user_study,
        NOT_RUN: _not_run,
    }
    if schema in readers:
        readers[schema](name, raw, found)
        return
    known = ", ".join(readers)
    why = f"has the schema {schema!r}, expected one of {known}; evaluate again with this version"
    found.unusable[name] = why
    cell = raw.get("settings", {}).get("cell") if isinstance(raw, dict) else None
    if cell and all(cell.get(part) for part in ("system", "dataset", "mode")) and (key := _key(cell)):
        found.reasons[key].append((name, why))


def _key(cell: Mapping[str, Any]) -> CellKey | None:
    """Returns the cell that a file names, or None."""
    if not cell.get("system"):
        return None
    return CellKey(str(cell["dataset"]), str(cell["mode"]), str(cell["system"]), str(cell.get("variant") or FULL))


def _evaluation(name: str, raw: Mapping[str, Any], found: FoundResults) -> None:
    settings = raw["settings"]
    key = _key(settings.get("cell") or {})
    if key is None:
        found.unlabelled.append(name)
        return
    rows: dict[str, Measured] = {}
    run = int(settings["cell"].get("run") or 0)
    for metric, stored in raw["metrics"].items():
        record = _with_present_words(stored)
        value = record["value"]
        if value is not None:  # fields that every cell shows
            _require(record, ("title", "better", "official", "network", "sha256", "protocol", "n", "expected"), metric)
            _require_possible(record, metric)
        reason = None if value is not None else str(record["not_computed"]).splitlines()[0]
        offsets = _offsets(raw["clips"]) if metric.startswith("sync") else ()
        clips = _clips(raw["clips"], metric, settings)
        rows[metric] = Measured(name, run, value, reason, record, settings, clips, offsets)
    for metric, measured in rows.items():  # after the loop: a file with an error contributes nothing
        found.measured[key, metric].append(measured)
    found.files[key][run].append(name)


def columns() -> dict[str, Column]:
    """Returns all possible columns by name: those of all metrics and those of the user study."""
    measured = [column for name in METRICS.names() for column in METRICS.get(name).columns]
    rated = [
        Column(question, title, "higher", low=min(LEVELS), high=max(LEVELS))
        for question, (title, _) in QUESTIONS.items()
    ]
    return {column.metric: column for column in (*measured, *rated)}


def _require_possible(record: Mapping[str, Any], metric: str) -> None:
    """Refuses values that no evaluation writes: negative distances, more clips than there are."""
    truth = record.get("ground_truth")
    values = {metric: record["value"], f"{metric}.floor": record.get("floor")}
    if isinstance(truth, dict):
        values[f"{metric}.ground_truth"] = truth.get("value")
    column = columns().get(metric)
    low, high = (column.low, column.high) if column else (None, None)
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"{name} is {value}")
        if low is not None and value < low - ROUNDING:
            raise ValueError(f"{name} is {value:g}, at least {low:g} is possible")
        if high is not None and value > high + ROUNDING:
            raise ValueError(f"{name} is {value:g}, at most {high:g} is possible")
    if not 1 <= record["n"] <= record["expected"]:
        raise ValueError(f"{metric} is of {record['n']} of {record['expected']} clips")


def _clips(rows: Iterable[Mapping[str, Any]], metric: str, settings: Mapping[str, Any]) -> dict[str, ScoredClip]:
    """Clips in the value of a metric; all clips if the file has no entry of the metric for any of them."""
    column = columns().get(metric)
    family = (column.family if column else "") or metric
    rows = list(rows)
    entries = {row["clip"]: (row.get("metrics") or {}).get(family) for row in rows}
    scored = {clip: entry for clip, entry in entries.items() if entry is not None and _is_scored(entry)}
    wanted = scored or dict.fromkeys(entries, {})
    return {row["clip"]: _clip(row, wanted[row["clip"]], settings) for row in rows if row["clip"] in wanted}


def _is_scored(entry: Any) -> bool:
    """Whether the generated video has a value; Sync also lists clips of which only the real video has one."""
    made = entry.get("generated", 1)
    return bool(made.get("windows", 1)) if isinstance(made, dict) else bool(made)


def _clip(row: Mapping[str, Any], entry: Mapping[str, Any], settings: Mapping[str, Any]) -> ScoredClip:
    made, real = row["generated"], row["reference"]
    pieces = entry.get("first_frames")
    if isinstance(pieces, dict):  # FVD: one piece; the frames are those of the piece
        first, frames = pieces.get("reference", 0), 1
    else:
        first, frames = real.get("first_frame", 0), row.get("frames", 0)
    sizes = None
    if all(name in side for side in (made, real) for name in ("width", "height")):
        panel = settings.get("crop")
        own = (panel[2], panel[3]) if panel else (made["width"], made["height"])
        sizes = (own, (real["width"], real["height"]))
    return ScoredClip(
        real["sha256"], made["sha256"], first, frames, sizes, (made.get("encoding"), real.get("encoding")), entry
    )


def _with_present_words(record: Mapping[str, Any]) -> dict[str, Any]:
    """A metric's entry with ``proxy`` where earlier versions wrote ``stand-in``, so that both may be compared."""

    def renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
        texts = {name: entry[name] for name in ("title", "network") if isinstance(entry.get(name), str)}
        return {**entry, **{name: text.replace("stand-in", "proxy") for name, text in texts.items()}}

    networks = {"networks": [renamed(one) for one in record["networks"]]} if "networks" in record else {}
    return {**renamed(record), **networks}


def _offsets(clips: Iterable[Mapping[str, Any]]) -> tuple[int, ...]:
    scored = (clip["metrics"].get("sync", {}).get("generated") for clip in clips)
    return tuple(row["offset"] for row in scored if row and row["windows"])


def _require(record: Mapping[str, Any], fields: tuple[str, ...], metric: str) -> None:
    for name in fields:
        if name not in record:
            raise KeyError(f"{metric}.{name}")


def _user_study(name: str, raw: Mapping[str, Any], found: FoundResults) -> None:
    rows: dict[tuple[CellKey, str], Measured] = {}
    for system, questions in raw["systems"].items():
        for question, entry in questions.items():
            record = {
                **entry,
                "title": raw["questions"][question]["title"],
                "better": "higher",
                "official": True,  # people, not a network
                "network": f"{raw['raters']} people",
                "sha256": raw["study"],
                "protocol": raw["protocol"],
                "agreement": raw["agreement"][question],
            }
            _require(record, ("n", "expected", "interval"), question)
            _require_possible(record, question)
            key = CellKey("user_study", RATED, system)
            rows[key, question] = Measured(name, 0, float(entry["value"]), None, record)
    for place, measured in rows.items():
        found.measured[place].append(measured)


def _not_run(name: str, raw: Mapping[str, Any], found: FoundResults) -> None:
    reasons = [(_key(row), str(row["reason"])) for row in raw["rows"]]
    for key, reason in reasons:
        if key is not None:
            found.reasons[key].append((name, reason))
