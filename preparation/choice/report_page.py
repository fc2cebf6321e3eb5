"""Page of a scan: counts by condition, histograms with limits to drag, and strips of chosen and other shots.

``report.html`` is one static file without a server. Its histograms hold all shots of a scan up to a limit, and every
second, third, ... of larger ones. It shows the strips of some chosen shots and of some that miss each condition.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from configs.preparation import PrepareConfig
from preparation.choice.choose_shots import DERIVED, Choice
from preparation.clip_source import EXPLANATIONS, Reason
from preparation.scan.columns import COLUMNS
from preparation.scan.strips import read_strip, strip_path
from runtime.files import write_whole

PAGE_NAME = "report.html"
MOST_SHOTS = 20_000  # whose measures are on the page
CHOSEN_SHOWN = 60  # strips of chosen shots
MISSED_SHOWN = 12  # strips of each condition
# Measures that always have a histogram; others have one if ``select`` uses them.
SHOWN = ("seconds", "face_px", "enlargement", "face_share", "turned", "blur", "lip_motion", "lip_envelope_r", "speech",
         "loudness", "frozen_share", "cut_score")  # fmt: skip
MEANINGS = {column.name: column.meaning for column in COLUMNS} | DERIVED
LISTED = ("key", "speaker", "split", "frames")


def write_report_page(choice: Choice, config: PrepareConfig, folder: Path) -> Path:
    """Writes ``report.html`` into the folder of a scan.

    Args:
        choice: Result of ``select``.
        config: Configuration with that ``select``.
        folder: Folder of the scan, with its strips.

    Returns:
        Path of the page.
    """
    content = {
        "select": " ".join(config.select.split()),
        "shots": choice.shots,
        "chosen": len(choice.chosen),
        "frames": pc.sum(choice.chosen["frames"]).as_py() or 0,
        "missed": [vars(missed) for missed in choice.missed],
        "problems": [[EXPLANATIONS[Reason(name)], count] for name, count in sorted(choice.problems.items())],
        **(histograms := _histograms(choice, config.select)),
        "shown": list(_shown(choice, folder, list(histograms["columns"]))),
    }
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page = resources.files(__package__).joinpath("report.html").read_text(encoding="utf-8")
    path = folder / PAGE_NAME
    write_whole(path, page.replace("$CONTENT", text))
    return path


def _histograms(choice: Choice, select: str) -> dict[str, Any]:
    """Values of the measures with a histogram, null where there is none, and whether each shot is chosen."""
    numbers = [name for name, kind in zip(choice.chosen.schema.names, choice.chosen.schema.types, strict=True)
               if name in MEANINGS and (pa.types.is_floating(kind) or pa.types.is_integer(kind))]  # fmt: skip
    wanted = [name for name in numbers if name in SHOWN or name in select]
    parts = (choice.chosen.select(wanted), choice.rejected.select(wanted))
    step = -(-max(1, choice.shots) // MOST_SHOTS)
    kept = np.concatenate([np.ones(len(parts[0]), int), np.zeros(len(parts[1]), int)])[::step]
    table = pa.concat_tables(parts)
    columns = {}
    for name in wanted:
        values = pc.cast(table[name], pa.float64()).to_numpy()[::step]
        if np.isfinite(values).any():
            columns[name] = [float(f"{value:.4g}") if np.isfinite(value) else None for value in values]
    return {
        "step": step,
        "kept": kept.tolist(),
        "columns": columns,
        "meanings": {name: MEANINGS[name] for name in columns},
    }


def _shown(choice: Choice, folder: Path, measures: list[str]) -> Iterator[dict[str, Any]]:
    """Chosen shots, spread evenly over the scan, and the first shots that miss each condition."""
    places = np.linspace(0, len(choice.chosen) - 1, min(CHOSEN_SHOWN, len(choice.chosen))).round().astype(int)
    yield from _of(choice.chosen.take(pa.array(places)), folder, measures)
    shown: set[str] = set()
    texts = [f" and {text} and " for text in choice.rejected["missed"].to_pylist()]
    for missed in choice.missed:
        rows = [row for row, text in enumerate(texts) if f" and {missed.text} and " in text]
        for one in _of(choice.rejected.take(pa.array(rows[:MISSED_SHOWN], pa.int64())), folder, measures):
            if one["key"] not in shown:
                shown.add(one["key"])
                yield one


def _of(table: pa.Table, folder: Path, measures: list[str]) -> Iterator[dict[str, Any]]:
    for row in table.to_pylist():
        shown = {name: row[name] for name in LISTED} | {"missed": row.get("missed", "")}
        shown["measures"] = {name: row[name] for name in measures if row[name] is not None}
        yield shown | read_strip(strip_path(folder, row["key"]))
