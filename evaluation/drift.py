"""How metrics change over the minutes of long videos: each per window of some seconds, and the slope with its interval.

Only windows that every clip covers are used: a Fréchet distance of fewer clips would be larger for that alone. A
window's value is exactly that of videos that hold its frames and no others, faces found anew in it. A video cut and
encoded again gives another one, since its pictures are others: E-FID of six very noisy frames was 1.49 cut without
encoding, 1.11 encoded again without quantisation, in 4:2:0, and 0.95 at crf 4. Sync with sync.mode=reference, whose
steps need a file, is such a case: the window is encoded for it, at the highest quality.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy import stats

from configs.evaluation import EvaluateConfig
from evaluation.aligned_clips import Clip, Side
from evaluation.cache import FeatureStore
from evaluation.features import Extractor, Unusable
from evaluation.frechet_scores import frechet_value
from evaluation.networks import NotComputed
from evaluation.results import Value
from evaluation.sync_scores import SyncScorer
from media import MediaError
from runtime.progress import progress_bar

LEAST = 3  # windows a slope with an interval needs
Builders = Mapping[str, Callable[[EvaluateConfig, torch.device], Extractor]]
Measures = dict[str, dict[str, Any]]  # metric -> value, n and, without a value, the reason


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
    config: EvaluateConfig,
    clips: Sequence[Clip],
    builders: Builders,
    stores: tuple[FeatureStore, FeatureStore],
    device: torch.device,
    console: Console,
) -> list[Value]:
    """The same values, each with what it is in every window.

    Args:
        values: of one metric family.
        config: of the evaluation; ``drift`` is the window's length, seconds.
        clips: the pairs that were compared.
        builders: metric -> what makes its features.
        stores: of the reference side and of the generated side.
        device: where networks run.
        console: for the progress bar.
    """
    assert config.drift is not None
    length = max(1, round(config.drift * config.fps))
    count = min((clip.generated.frames for clip in clips), default=0) // length
    family = values[0].name.partition("_")[0]
    measure: Callable[[Sequence[Clip], int, int], Measures] = (
        _SyncWindow(SyncScorer(config.sync, device))
        if family == "sync"
        else _FrechetWindow(builders[family](config, device), stores)
    )
    rows: list[Measures] = []
    with progress_bar(console, f"{family} per {config.drift:g} s", count) as bar:
        for index in range(count):
            rows.append(measure(clips, index * length, length))
            bar.advance(bar.task_ids[0])
    found = []
    for value in values:
        windows = [{"start": index * length / config.fps, **row[value.name]} for index, row in enumerate(rows)]
        found.append(replace(value, extra={**value.extra, "drift": _drift(windows, config.drift, len(clips))}))
    return found


def _drift(windows: list[dict[str, Any]], seconds: float, clips: int) -> dict[str, Any]:
    record: dict[str, Any] = {"window_seconds": seconds, "n": clips, "windows": windows}
    known = [window for window in windows if window["value"] is not None]
    if len(known) < LEAST:
        reason = f"{len(known)} windows that all clips cover have a value, a slope needs {LEAST}"
        return record | {"slope_per_minute": None, "low": None, "high": None, "reason": reason}
    slope = slope_of([window["start"] / 60 for window in known], [window["value"] for window in known])
    return record | {"slope_per_minute": slope.per_minute, "low": slope.low, "high": slope.high}


class _FrechetWindow:
    """FID, FVD or E-FID of all clips' frames of one window."""

    def __init__(self, extractor: Extractor, stores: tuple[FeatureStore, FeatureStore]) -> None:
        self._extractor, self._stores = extractor, stores

    def __call__(self, clips: Sequence[Clip], first: int, length: int) -> Measures:
        name = self._extractor.name
        pieces = [
            replace(
                clip,
                generated=_piece(clip.generated, first, length),
                reference=_piece(clip.reference, first, length),
            )
            for clip in clips
        ]
        try:
            value, _, _ = frechet_value(self._extractor, pieces, len(pieces), self._stores, (0, 0), lambda _: None)
        except NotComputed as error:
            return {name: {"value": None, "n": 0, "reason": str(error).splitlines()[0]}}
        return {name: {"value": value.value, "n": value.clips}}


def _piece(side: Side, first: int, length: int) -> Side:
    return replace(side, start=side.start + first, frames=length)


class _SyncWindow:
    """Sync-C and Sync-D of the generated videos alone."""

    def __init__(self, scorer: SyncScorer) -> None:
        self._scorer = scorer

    def __call__(self, clips: Sequence[Clip], first: int, length: int) -> Measures:
        scores, reason = [], "no face could be followed"
        for clip in clips:
            begin = (clip.generated.start + first) / clip.generated.fps
            try:
                row = self._scorer.score(clip.generated, (begin, begin + length / clip.generated.fps))
            except (Unusable, MediaError) as error:
                reason = str(error)
                continue
            if row["windows"]:
                scores.append((float(row["confidence"]), float(row["distance"])))
        if not scores:
            return {name: {"value": None, "n": 0, "reason": reason} for name in ("sync_c", "sync_d")}
        means = np.mean(scores, axis=0).tolist()
        return {name: {"value": mean, "n": len(scores)} for name, mean in zip(("sync_c", "sync_d"), means, strict=True)}
