"""Figures of the committed results: the losses of the trainings, and the trade-off of CLUB's weight."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from runtime.files import write_whole
from tools.nightly.measured import MeasuredCheck, mixed_code
from tools.pipeline.step import Step, read_log

matplotlib.use("Agg")
LOSSES = ("train/loss", "val/loss")
# V-AID's loss is mostly the likelihood of CLUB's network, which says nothing about its predictions.
OF_VAID = ("train/lip_mse", "val/lip_mse", "train/expression_mse", "val/expression_mse")
POINTS = 40  # of a curve
COLUMNS, WIDTH, HEIGHT = 3, 3.1, 2.3  # panels in a row; inches of a panel
CLUB = re.compile(r"club_(?P<weight>[\d.]+)_(?P<seed>\d+)_score")
PROBE, RETENTION = "accuracy of an emotion probe on l_a", "R² of the lips"


def read_curves(step: Step) -> dict[str, list[tuple[int, float]]]:
    """Losses of a training as at most ``POINTS`` means over equal numbers of logged values; none for other steps.

    For V-AID they are the squared errors of lips and expressions.

    Returns:
        Name of the loss -> (last step, mean) of each part.
    """
    if step.command[0] != "train.py" or not step.writes or "task=export" in step.command:
        return {}
    rows, curves = read_log(step.writes[0]), {}
    for name in OF_VAID if any(row.get("train/lip_mse") for row in rows) else LOSSES:
        logged = [(int(row["step"]) + 1, float(row[name])) for row in rows if row.get(name)]
        size = -(-len(logged) // POINTS)
        parts = [logged[start : start + size] for start in range(0, len(logged), size or 1)]
        if parts:
            curves[name] = [(part[-1][0], float(f"{fmean(value for _, value in part):.4g}")) for part in parts]
    return curves


def draw_losses(titles: Mapping[str, str], results: Mapping[str, MeasuredCheck]) -> Figure | None:
    """Draws the losses of the trainings, one panel each; None if there is no curve.

    Args:
        titles: Name of a check -> title of its panel.
        results: Results by name.
    """
    shown = [name for name in titles if name in results and results[name].curves]
    if not shown:
        return None
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(figsize=(WIDTH * COLUMNS, HEIGHT * rows), layout="constrained")
    for place, name in enumerate(shown, 1):
        axes = figure.add_subplot(rows, COLUMNS, place)
        for loss, points in results[name].curves.items():
            axes.plot(*zip(*points, strict=True), label=loss, marker="o" if len(points) == 1 else None, markersize=3)
        if min(value for points in results[name].curves.values() for _, value in points) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(titles[name], fontsize=9)
        axes.tick_params(labelsize=7, which="both")
        axes.legend(fontsize=7, frameon=False)
        axes.set_xlabel("steps", fontsize=7)
    return figure


def draw_club(results: Mapping[str, MeasuredCheck]) -> Figure | None:
    """Draws the emotion left in the lip latents against the speech that they keep, for each weight and seed of CLUB.

    Returns:
        None if fewer than two weights have results, or if they come from different code.
    """
    found = {name: result for name, result in results.items() if CLUB.fullmatch(name)}
    groups: dict[float, list[tuple[float, float]]] = {}
    for name, result in found.items():
        probe, kept, match = result.numbers.get(PROBE), result.numbers.get(RETENTION), CLUB.fullmatch(name)
        if match and probe is not None and kept is not None:
            groups.setdefault(float(match["weight"]), []).append((probe, kept))
    if len(groups) < 2 or mixed_code(found):
        return None
    figure = Figure(figsize=(1.6 * WIDTH, 1.3 * HEIGHT), layout="constrained")
    axes: Any = figure.add_subplot()
    weights = sorted(groups)
    means = [[fmean(values) for values in zip(*groups[weight], strict=True)] for weight in weights]
    axes.plot(*zip(*means, strict=True), color="0.6", linewidth=1, zorder=0)
    for number, weight in enumerate(weights):
        axes.scatter(*zip(*groups[weight], strict=True), color=f"C{number}", label=f"weight {weight:g}")
    axes.axvline(1 / 8, color="0.6", linestyle=":", linewidth=1)
    axes.set_xlabel("accuracy of an emotion probe on l_a (dotted: chance)", fontsize=8)
    axes.set_ylabel(RETENTION, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=8, frameon=False)
    return figure


def write_figures(folder: Path, titles: Sequence[tuple[str, str]], results: Mapping[str, MeasuredCheck]) -> list[Path]:
    """Writes the figures that the results have data for, as SVG; returns their files.

    Args:
        folder: Folder of the files.
        titles: Name and title of each check.
        results: Results by name.
    """
    written = []
    for name, figure in (("losses.svg", draw_losses(dict(titles), results)), ("club.svg", draw_club(results))):
        if figure is not None:
            # Equal results give equal files.
            matplotlib.rcParams.update({"svg.hashsalt": name, "svg.fonttype": "none"})
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", metadata={"Date": None})
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")
            written.append(folder / name)
    return written
