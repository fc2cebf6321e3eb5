"""Plots metrics over the minutes of long videos, from results files of ``drift=5``: windows, slope and interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from evaluation.results import SCHEMA
from runtime.errors import UserError
from runtime.json_text import read_json

matplotlib.use("Agg")
WIDTH, HEIGHT = 4.6, 3.2  # inches of one panel


def draw_drift(files: Sequence[Path]) -> Figure:
    """Draws one panel per metric, with one line per results file.

    Raises:
        UserError: If a file is not a results file, or no file contains a drift.
    """
    found: dict[str, list[tuple[str, dict[str, Any], str]]] = {}
    for path in files:
        raw = _read(path)
        for metric, record in raw["metrics"].items():
            if record.get("drift"):
                found.setdefault(metric, []).append((_name(path, raw), record["drift"], record["title"]))
    if not found:
        raise UserError(f"{', '.join(map(str, files))}: contains no drift; evaluate again with drift=5")
    figure = Figure(figsize=(WIDTH * len(found), HEIGHT), layout="constrained")
    for place, lines in enumerate(found.values(), 1):
        axes = figure.add_subplot(1, len(found), place)
        axes.set_title("/".join(dict.fromkeys(title for _, _, title in lines)), fontsize=10)
        for number, (name, drift, _) in enumerate(lines):
            _draw(axes, name, drift, f"C{number}")
        seconds = lines[0][1]["window_seconds"]
        axes.set_xlabel(f"minutes (windows of {seconds:g} s)")
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)  # must not hide points
    return figure


def _draw(axes: Any, name: str, drift: dict[str, Any], colour: str) -> None:
    known = [window for window in drift["windows"] if window["value"] is not None]
    minutes = np.array([window["start"] / 60 for window in known])
    values = np.array([window["value"] for window in known])
    if drift["slope_per_minute"] is None:
        axes.plot(minutes, values, "o", color=colour, markersize=4, label=f"{name}: no slope ({len(known)} windows)")
        return
    slope, low, high = (drift[key] for key in ("slope_per_minute", "low", "high"))
    axes.plot(
        minutes, values, "o", color=colour, markersize=4, label=f"{name}: {slope:+.3g} a minute [{low:.3g}, {high:.3g}]"
    )
    centre, along = values.mean(), minutes - minutes.mean()
    axes.plot(minutes, centre + slope * along, color=colour)
    edges = np.stack([centre + low * along, centre + high * along])
    axes.fill_between(minutes, edges.min(axis=0), edges.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a results file ({error})") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else None
        raise UserError(f"{path}: has the schema {found!r}, expected {SCHEMA}; evaluate again with drift=5")
    return raw


def _name(path: Path, raw: dict[str, Any]) -> str:
    cell = raw["settings"].get("cell") or {}
    return " ".join(str(cell[key]) for key in ("system", "variant") if cell.get("system")) or path.stem
