"""Scores of compared rows on the clips that they share, from values per clip or cached features.

Shapes: C clips, R resamples, N samples of a clip, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import stdtrit

from benchmark.tables.reading import Measured, ScoredClip
from evaluation.cache import FeatureStore, default_folder
from evaluation.kid_scores import CONVENTION, KernelSums
from evaluation.pairs import EvaluationError
from metrics.functional.bootstrap import FrechetBootstrap, PairedDifference, Scores
from metrics.functional.bootstrap import resampled as draw_clips

Span = tuple[int, int]  # first frame of the real video, and the frame after the last one
SEED = 0
RESAMPLES = 200
MIN_CLIPS = 3  # fewer clips have no useful interval


@dataclass(frozen=True)
class RowScore:
    """Score of one row and its resamples.

    Attributes:
        value: Score of all clips; the mean over runs.
        draws: (R,) scores of the resamples.
        clips: Number of clips C.
        runs: Score of each run.
    """

    value: float
    draws: np.ndarray
    clips: int
    runs: tuple[float, ...]


def mean_over_runs(runs: Sequence[tuple[float, np.ndarray]], clips: int, seed: int) -> RowScore:
    """Combines the runs of one row; several runs are resampled too.

    Args:
        runs: For each run its score of all clips, and its (R,) scores of the resampled clips.
        clips: Number of clips C.
        seed: Seed of the draw of runs; must differ between rows.
    """
    scores = np.stack([draws for _, draws in runs])  # (runs, R)
    count, resamples = scores.shape
    chosen = np.random.default_rng(seed).integers(0, count, (count, resamples)) if count > 1 else np.zeros((1, 1), int)
    values = tuple(value for value, _ in runs)
    return RowScore(float(np.mean(values)), scores[chosen, np.arange(resamples)].mean(axis=0), clips, values)


def difference_of(one: RowScore, other: RowScore) -> PairedDifference:
    """Computes ``one`` minus ``other`` with a 95 % interval: Student's t times the bootstrap's standard error.

    For a mean over clips the interval tends to that of a paired t test, also for few clips.

    Raises:
        ValueError: If the scores are of different numbers of clips, or of fewer than three.
    """
    if one.clips != other.clips or one.clips < MIN_CLIPS:
        raise ValueError(f"scores of {one.clips} and {other.clips} clips, expected equal numbers, at least {MIN_CLIPS}")
    draws = one.draws - other.draws
    error = float(np.nanstd(draws, ddof=1)) * (one.clips / (one.clips - 1)) ** 0.5
    half = float(stdtrit(one.clips - 1, 0.975)) * error
    value = one.value - other.value
    return PairedDifference(value, value - half, value + half, draws)


class NotAtHandError(Exception):
    """Raised if a row cannot be scored on other clips than its own; the message has the reason."""


def score_runs(runs: Sequence[Measured], metric: str, spans: Mapping[str, Span | None], place: int) -> RowScore:
    """Scores one row on chosen clips, with resamples for paired differences.

    Args:
        runs: The row's runs.
        metric: The column.
        spans: Chosen clips, each with the frames of the real video that all rows share; None for whole clips.
        place: Number of the row among the compared ones.

    Raises:
        NotAtHandError: If neither values per clip nor features are at hand.
    """
    times = draw_clips(len(spans), RESAMPLES, SEED)
    scored = [_score_run(run, metric, spans, times) for run in runs]
    return mean_over_runs(scored, len(spans), seed=SEED + 1 + place)


def _score_run(
    run: Measured, metric: str, spans: Mapping[str, Span | None], times: np.ndarray
) -> tuple[float, np.ndarray]:
    whole = np.ones((1, len(spans)), int)
    if (means := _means(run, metric, list(spans))) is not None:
        return float(means(whole)[0]), means(times)
    rows = {clip: run.clips[clip].entry.get("features") for clip in spans}
    if "convention" not in run.record or not all(isinstance(row, dict) for row in rows.values()):
        raise NotAtHandError(f"{run.file} has neither values per clip nor the names of its features; evaluate it again")
    store = _store(run)
    key = {
        "what": "draws of a table",
        "convention": run.record["convention"],
        "clips": [[rows[clip], span] for clip, span in spans.items()],
        "resamples": RESAMPLES,
        "seed": SEED,
    }

    def make() -> dict[str, np.ndarray]:
        features = _features(run, store, rows, spans)
        return {"value": features.distances(whole), "draws": features.draws(times)}

    found = store.fetch(key, make)  # written only next to features that were found
    return float(found["value"][0]), found["draws"]


def _means(run: Measured, metric: str, clips: Sequence[str]) -> Scores | None:
    """Values per clip, if the value in the file is their mean."""
    values = {clip: _value_of(scored, metric) for clip, scored in run.clips.items()}
    known = [value for value in values.values() if value is not None]
    if len(known) < len(values) or not known or not np.isclose(np.mean(known), run.value or 0.0, rtol=1e-6, atol=1e-9):
        return None
    chosen = np.array([values[clip] for clip in clips], float)
    return lambda times: (times @ chosen) / times.sum(axis=1)


def _value_of(clip: ScoredClip, metric: str) -> float | None:
    made: Any = clip.entry.get("generated")
    value = made.get(metric) if isinstance(made, dict) else clip.entry.get(metric)
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)


def _store(run: Measured) -> FeatureStore:
    named = run.settings.get("cache")
    folder = Path(str(named)) if named else default_folder()
    if named and not folder.is_dir():
        raise NotAtHandError(f"the cache {folder} of {run.file} does not exist; evaluate it again")
    try:
        return FeatureStore(folder)
    except EvaluationError as error:
        raise NotAtHandError(f"the features of {run.file} cannot be read: {error}") from error


def _features(
    run: Measured, store: FeatureStore, rows: Mapping[str, Any], spans: Mapping[str, Span | None]
) -> FrechetBootstrap | KernelSums:
    sides: dict[str, list[np.ndarray]] = {"reference": [], "generated": []}
    for clip, span in spans.items():
        for side, kept in sides.items():
            arrays = store.part(rows[clip].get(side))
            if arrays is None:
                raise NotAtHandError(
                    f"the features of {run.file} are not in the cache {store.folder}; evaluate it again"
                )
            kept.append(_cut(arrays, run.clips[clip], span, run.file))
    if run.record["convention"] == CONVENTION:
        return KernelSums(sides["reference"], sides["generated"], _device())
    return FrechetBootstrap(sides["reference"], sides["generated"], str(run.record["convention"]), _device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _cut(arrays: Mapping[str, np.ndarray], clip: ScoredClip, span: Span | None, file: str) -> np.ndarray:
    """Features of the frames in a span."""
    features = arrays["features"]
    if span is None or span == (clip.first, clip.first + clip.frames):
        return features
    places = arrays.get("frames")
    if places is None:
        if len(features) != clip.frames:
            raise NotAtHandError(f"the features of {file} do not say which frames they are of; evaluate it again")
        places = np.arange(clip.frames)
    places = places + clip.first
    return features[(places >= span[0]) & (places < span[1])]
