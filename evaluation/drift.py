"""Drift of metrics over long videos: the value in each time window, and the slope with its interval.

Only windows that every clip covers are used, because a Fréchet distance increases with fewer clips. The value of a
window equals that of videos with exactly its frames; faces are detected again in each window. Cutting a video with
re-encoding changes its frames and therefore the value: E-FID of six very noisy frames was 1.49 without re-encoding,
1.11 with lossless 4:2:0 and 0.95 at crf 4. Sync with sync.mode=reference needs files, so its windows are re-encoded at
the highest quality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.console import Console
from scipy.special import stdtrit

from evaluation.aligned_clips import Clips
from evaluation.frechet_scores import Stores
from evaluation.metric import Measures, Metric
from evaluation.ranks import Ranks
from evaluation.results import Value
from runtime.progress import progress_bar

MIN_WINDOWS = 3  # minimum number of windows for a slope with an interval


@dataclass(frozen=True)
class Slope:
    """Slope of a line fitted to a metric's windows.

    Attributes:
        per_minute: Change of the metric per minute.
        low: Lower end of the 95 % interval.
        high: Upper end of the 95 % interval.
    """

    per_minute: float
    low: float
    high: float


def slope_of(minutes: Sequence[float], values: Sequence[float]) -> Slope:
    """Fits a slope by least squares, with Student's t interval under the assumption of independent windows.

    Args:
        minutes: (W,) starts of the windows, minutes; W >= 3.
        values: (W,) values of the metric.
    """
    times, heights = np.asarray(minutes, float), np.asarray(values, float)
    centred = times - times.mean()
    slope = float(centred @ heights / (centred @ centred))
    residual = heights - heights.mean() - slope * centred
    error = math.sqrt(float(residual @ residual) / (len(times) - 2) / float(centred @ centred))
    half = float(stdtrit(len(times) - 2, 0.975)) * error
    return Slope(slope, slope - half, slope + half)


def windows_of(clips: Clips, seconds: float, fps: float) -> tuple[int, int]:
    """Returns the frames of a window and the number of windows that every clip covers."""
    length = max(1, round(seconds * fps))
    return length, min((clip.generated.frames for clip in clips), default=0) // length


def compute_windows(
    metric: Metric, clips: Clips, seconds: float, fps: float, stores: Stores, ranks: Ranks, console: Console
) -> list[Measures]:
    """Computes a metric over every window; the windows are dealt to the processes, and every process gets all values.

    With fewer windows than processes, the features are dealt by clips before.
    """
    length, count = windows_of(clips, seconds, fps)
    if count < ranks.size:
        for index in range(count):
            metric.window(ranks.mine(clips), index * length, length, stores)
        ranks.wait()
    own = []
    places = ranks.mine(range(count))
    with progress_bar(console, f"windows of {seconds:g} s", len(places)) as bar:
        for index in places:
            own.append(metric.window(clips, index * length, length, stores))
            bar.advance(bar.task_ids[0])
    return ranks.together(own)


def with_drift(
    values: Sequence[Value], rows: Sequence[Measures], clips: Clips, seconds: float, fps: float
) -> list[Value]:
    """Adds the drift to the values of a metric.

    Args:
        values: Values of the metric over whole clips.
        rows: Values of the windows, from ``compute_windows``.
        clips: The compared pairs.
        seconds: Length of a window, seconds.
        fps: Frame rate of the comparison.

    Returns:
        The values with ``extra["drift"]``.
    """
    length, _ = windows_of(clips, seconds, fps)
    found = []
    for value in values:
        windows = [{"start": index * length / fps, **row[value.name]} for index, row in enumerate(rows)]
        found.append(replace(value, extra={**value.extra, "drift": _drift(windows, seconds, len(clips))}))
    return found


def _drift(windows: list[dict[str, Any]], seconds: float, clips: int) -> dict[str, Any]:
    record: dict[str, Any] = {"window_seconds": seconds, "n": clips, "windows": windows}
    known = [window for window in windows if window["value"] is not None]
    if len(known) < MIN_WINDOWS:
        reason = f"{len(known)} windows covered by all clips have a value, a slope needs {MIN_WINDOWS}"
        return record | {"slope_per_minute": None, "low": None, "high": None, "reason": reason}
    slope = slope_of([window["start"] / 60 for window in known], [window["value"] for window in known])
    return record | {"slope_per_minute": slope.per_minute, "low": slope.low, "high": slope.high}
