"""Chooses the shots of a scan that meet an expression, and counts the others by the condition that they miss."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from configs.preparation import PrepareConfig
from preparation.choice.select_expression import Condition, evaluate_condition, parse_select
from preparation.scan.columns import SCHEMA
from preparation.scan.scan_clips import SCAN_FOLDER
from runtime.files import sha256_of, whole_file, write_whole

CHOSEN_NAME = "chosen.csv"
CHOICE_NAME = "choice.json"
# Columns that follow from others and the settings, so that changing a setting needs no other scan.
DERIVED = {
    "seconds": "length of the shot, seconds",
    "crop_px": "side of the square crop, pixels: face.scale times span_px, limited by the picture",
    "enlargement": "frame_size over crop_px; above 1 the crop is enlarged",
}
LISTED = ("key", "path", "sound", "start", "end", "speaker", "emotion", "level", "view", "split")


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
        shots: Number of all shots.
        missed: Counts of each condition, in the expression's order.
        problems: Problem of unreadable clips -> count.
    """

    chosen: pa.Table
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
    misses = sum((~held).astype(int) for held in holds) if holds else None
    missed = tuple(
        _missed(condition, column.null_count, ~held, misses)
        for condition, column, held in zip(conditions, kept, holds, strict=True)
    )
    chosen = table if misses is None else table.filter(pa.array(misses == 0))
    return Choice(chosen, len(table), missed, {count["values"]: count["counts"] for count in problems})


def _missed(condition: Condition, unknown: int, missing: np.ndarray, misses: np.ndarray) -> Missed:
    return Missed(condition.text, int(missing.sum()), int((missing & (misses == 1)).sum()), unknown)


def write_choice(choice: Choice, config: PrepareConfig, output: Path) -> Path:
    """Writes the list of chosen shots, and the expression with its counts.

    Returns:
        Path of the list.
    """
    path = output / SCAN_FOLDER / CHOSEN_NAME
    with whole_file(path) as partial:
        pyarrow.csv.write_csv(choice.chosen.select(LISTED), partial)
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
