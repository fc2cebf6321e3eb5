"""Chooses the shots of a scan that meet an expression, and counts the others by the condition that they miss."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from configs.preparation import PrepareConfig
from datamodules.schema import ShardError
from encoders.protocols import FPS
from preparation.choice.select_expression import Condition, evaluate_condition, parse_select
from preparation.clip_source import ClipSource, Reason
from preparation.scan.columns import SCHEMA
from preparation.scan.scan_clips import SCAN_FOLDER
from runtime.files import sha256_of, whole_file, write_whole

CHOSEN_NAME = "chosen.csv"
REJECTED_NAME = "rejected.csv"
CHOICE_NAME = "choice.json"
# Columns that follow from others and the settings, so that changing a setting needs no other scan.
DERIVED = {
    "seconds": "length of the shot, seconds",
    "crop_px": "side of the square crop, pixels: face.scale times span_px, limited by the picture",
    "enlargement": "frame_size over crop_px; above 1 the crop is enlarged",
}
ENCODED = ("key", "clip", "frames", "shot", "shots", "start", "end", "split", "person", "clip_person",
           "syncnet_confidence", "syncnet_offset", "lip_envelope_r", "lip_envelope_offset")  # fmt: skip
CERTAIN_CONFIDENCE = 3.0  # SyncNet's confidence from which its offset is right
CERTAIN_R = 0.45  # lip_envelope_r from which its offset is right,
CERTAIN_FRAMES = 100  # in shots of at least so many frames
LISTED = ("key", "path", "sound", "start", "end", "speaker", "emotion", "level", "view", "split", "box")


@dataclass(frozen=True)
class Missed:
    """One condition of an expression and the shots that miss it.

    Attributes:
        text: The condition.
        shots: Number of shots that miss it.
        alone: Number of shots that miss no other one.
        unknown: Number of shots whose measure is missing.
    """

    text: str
    shots: int
    alone: int
    unknown: int


@dataclass(frozen=True)
class Choice:
    """Result of an expression.

    Attributes:
        chosen: Rows of the chosen shots.
        rejected: Rows of the others, with the column ``missed``: the conditions that the shot misses.
        shots: Number of all shots.
        missed: Counts of each condition, in the expression's order.
        problems: Problem of unreadable clips -> count.
    """

    chosen: pa.Table
    rejected: pa.Table
    shots: int
    missed: tuple[Missed, ...]
    problems: dict[str, int]


def columns_of(config: PrepareConfig) -> dict[str, pa.DataType]:
    """Name -> type of every column that an expression may use."""
    del config
    return {field.name: field.type for field in SCHEMA} | dict.fromkeys(DERIVED, pa.float64())


def with_derived(table: pa.Table, config: PrepareConfig) -> pa.Table:
    """Adds the derived columns to a scan."""
    start, end = table["start"], table["end"]
    limit = pc.cast(pc.min_element_wise(table["width"], table["height"]), pa.float64())
    wanted = pc.multiply(pc.cast(table["span_px"], pa.float64()), config.face.scale)
    crop = pc.if_else(pc.is_valid(wanted), pc.min_element_wise(wanted, limit), None)
    found = {
        "seconds": pc.subtract(end, start),
        "crop_px": crop,
        "enlargement": pc.divide(float(config.frame_size), crop),
    }
    for name, column in found.items():
        table = table.append_column(name, column)
    return table


def choose_shots(table: pa.Table, config: PrepareConfig) -> Choice:
    """Applies ``config.select`` to a scan.

    Raises:
        ConfigError: If the expression is wrong.
    """
    conditions = parse_select(config.select, columns_of(config))
    problems = pc.value_counts(table["problem"].drop_null()).to_pylist()
    table = with_derived(table.filter(pc.is_null(table["problem"])), config)
    kept = [evaluate_condition(condition, table) for condition in conditions]
    holds = [pc.fill_null(column, False).to_numpy().astype(bool) for column in kept]
    misses = sum((~held for held in holds), np.zeros(len(table), int))
    missed = tuple(
        _missed(condition, column.null_count, ~held, misses)
        for condition, column, held in zip(conditions, kept, holds, strict=True)
    )
    texts = [
        " and ".join(condition.text for condition, held in zip(conditions, holds, strict=True) if not held[row])
        for row in np.flatnonzero(misses)
    ]
    rejected = table.filter(pa.array(misses > 0)).append_column("missed", pa.array(texts, pa.string()))
    return Choice(
        table.filter(pa.array(misses == 0)),
        rejected,
        len(table),
        missed,
        {count["values"]: count["counts"] for count in problems},
    )


def _missed(condition: Condition, unknown: int, missing: np.ndarray, misses: np.ndarray) -> Missed:
    return Missed(condition.text, int(missing.sum()), int((missing & (misses == 1)).sum()), unknown)


def write_choice(choice: Choice, config: PrepareConfig, output: Path) -> Path:
    """Writes the lists of chosen and other shots, and the expression with its counts.

    Returns:
        Path of the list of chosen shots.
    """
    path = output / SCAN_FOLDER / CHOSEN_NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        pyarrow.csv.write_csv(choice.chosen.select(LISTED), partial)
    with whole_file(output / SCAN_FOLDER / REJECTED_NAME) as partial:
        pyarrow.csv.write_csv(choice.rejected.select((*LISTED, "missed")), partial)
    counts = {
        "select": " ".join(config.select.split()),
        "list": sha256_of(path),
        "shots": choice.shots,
        "chosen": len(choice.chosen),
        "frames": pc.sum(choice.chosen["frames"]).as_py() or 0,
        "missed": [vars(missed) for missed in choice.missed],
        "problems": choice.problems,
    }
    write_whole(output / SCAN_FOLDER / CHOICE_NAME, json.dumps(counts, indent=1, sort_keys=True) + "\n")
    return path


def with_names(table: pa.Table, clips: Sequence[ClipSource]) -> pa.Table:
    """Replaces the speakers and splits of a scan by the current ones of its clips."""
    sources = {clip.key: clip for clip in clips}
    rows = table.select(["clip", "speaker", "split"]).to_pylist()
    for name in ("speaker", "split"):
        values = [getattr(sources.get(row["clip"]), name, row[name]) for row in rows]
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, pa.string()))
    return table


def lag_of(row: Mapping[str, Any], most: int) -> int:
    """Frames by which the sound of a shot is behind the lips, as far as it is certain and at most ``most``; else 0."""
    if row["syncnet_confidence"] is not None:
        certain, lag = row["syncnet_confidence"] >= CERTAIN_CONFIDENCE, row["syncnet_offset"]
    else:
        long = row["frames"] >= CERTAIN_FRAMES
        certain, lag = long and (row["lip_envelope_r"] or 0) >= CERTAIN_R, row["lip_envelope_offset"] or 0
    return lag if certain and abs(lag) <= most else 0


def chosen_clips(
    table: pa.Table, choice: Choice, clips: Sequence[ClipSource], correct_lag: int = 0
) -> list[ClipSource]:
    """Clips of the chosen shots. The other shots, and clips that could not be scanned, are clips with a problem.

    The only shot of a clip keeps the clip's key.

    Args:
        table: The scan.
        choice: Result of an expression over it.
        clips: Clips of the source that was scanned.
        correct_lag: Largest lag of the sound that is corrected, frames.

    Raises:
        ShardError: If the source has other clips than the scan.
    """
    sources = {clip.key: clip for clip in clips}
    scanned = {row["clip"]: row for row in table.select(["clip", "source", "problem", "detail"]).to_pylist()}
    if sources.keys() != scanned.keys():
        new, gone = sorted(sources.keys() - scanned.keys()), sorted(scanned.keys() - sources.keys())
        raise ShardError(
            f"the source has changed since the scan: {len(new)} clips new ({', '.join(new[:3]) or 'none'}), "
            f"{len(gone)} gone ({', '.join(gone[:3]) or 'none'}); run task=scan again"
        )
    found = [
        clip
        if clip.problem is not None
        else replace(clip, problem=Reason(scanned[clip.key]["problem"]), problem_detail=scanned[clip.key]["detail"])
        for clip in clips
        if scanned[clip.key]["problem"] is not None
    ]
    for shots in (choice.chosen, choice.rejected):
        for row in shots.select([name for name in (*ENCODED, "missed") if name in shots.column_names]).to_pylist():
            clip = replace(sources[row["clip"]], split=row["split"])
            if row["person"] is not None and row["clip_person"]:  # a guest in a clip of another person
                clip = replace(clip, speaker=f"{clip.speaker}+{row['clip_person']}")
            if row["shots"] > 1:
                clip = replace(clip, key=row["key"], name=f"{clip.name}[s{row['shot']}]")
            lag = lag_of(row, correct_lag)  # so many frames at the end or at the beginning have no sound to move
            start, end = row["start"] + max(0, -lag) / FPS, row["end"] - max(0, lag) / FPS
            clip = replace(clip, start=start, end=end, lag=lag)
            if "missed" in row:
                clip = replace(clip, problem=Reason.NOT_CHOSEN, problem_detail=f"misses {row['missed']}")
            found.append(clip)
    return sorted(found, key=lambda clip: clip.key)
