"""How metrics change over the minutes of long videos: each per window of some seconds, and the slope with its interval.

Only windows that every clip covers are used: a Fréchet distance of fewer clips would be larger for that alone. A
window's value is exactly that of videos that hold its frames and no others, faces found anew in it. A video cut and
encoded again gives another one, since its pictures are others: E-FID of six very noisy frames was 1.49 cut without
encoding, 1.11 encoded again without quantisation, in 4:2:0, and 0.95 at crf 4. Sync with sync.mode=reference, whose
steps need a file, is such a case: the window is encoded for it, at the highest quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from scipy import stats

from evaluation.aligned_clips import Clips
from evaluation.cache import FeatureStore
from evaluation.metric import Measures, Metric
from evaluation.results import Value
from runtime.progress import progress_bar

LEAST = 3  # windows a slope with an interval needs


@dataclass(frozen=True)
class Slope:
    """A straight line through a metric's windows.

    Attributes:
        per_minute: change of the metric in a minute.
        low: lower end of the 95 % interval.
        high: its upper end.
    """

    per_minute: float
    low: float
    high: float


def slope_of(minutes: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares with Student's interval, as if windows were independent.

    Args:
        minutes: (W,) when each window begins, W >= 3.
        values: (W,) the metric.
    """
    times, heights = np.asarray(minutes, float), np.asarray(values, float)
    centred = times - times.mean()
    slope = float(centred @ heights / (centred @ centred))
    residual = heights - heights.mean() - slope * centred
    error = math.sqrt(float(residual @ residual) / (len(times) - 2) / float(centred @ centred))
    half = float(stats.t.ppf(0.975, len(times) - 2)) * error
    return Slope(slope, slope - half, slope + half)


def with_drift(
    values: Sequence[Value],
    metric: Metric,
    clips: Clips,
    seconds: float,
    fps: float,
    stores: tuple[FeatureStore, FeatureStore],
    console: Console,
) -> list[Value]:
    """The same values, each with what it is in every window.

    Args:
        values: of the metric.
        metric: that gave them.
        clips: the pairs that were compared.
        seconds: length of a window.
        fps: frames per second of the comparison.
        stores: of the reference side and of the generated side.
        console: for the progress bar.
    """
    length = max(1, round(seconds * fps))
    count = min((clip.generated.frames for clip in clips), default=0) // length
    family = values[0].name.partition("_")[0]
    rows: list[Measures] = []
    with progress_bar(console, f"{family} per {seconds:g} s", count) as bar:
        for index in range(count):
            rows.append(metric.window(clips, index * length, length, stores))
            bar.advance(bar.task_ids[0])
    found = []
    for value in values:
        windows = [{"start": index * length / fps, **row[value.name]} for index, row in enumerate(rows)]
        found.append(replace(value, extra={**value.extra, "drift": _drift(windows, seconds, len(clips))}))
    return found


def _drift(windows: list[dict[str, Any]], seconds: float, clips: int) -> dict[str, Any]:
    record: dict[str, Any] = {"window_seconds": seconds, "n": clips, "windows": windows}
    known = [window for window in windows if window["value"] is not None]
    if len(known) < LEAST:
        reason = f"{len(known)} windows that all clips cover have a value, a slope needs {LEAST}"
        return record | {"slope_per_minute": None, "low": None, "high": None, "reason": reason}
    slope = slope_of([window["start"] / 60 for window in known], [window["value"] for window in known])
    return record | {"slope_per_minute": slope.per_minute, "low": slope.low, "high": slope.high}
