"""Differences between systems on the same clips, with intervals of a paired bootstrap.

A score is a function of how often each clip is counted. One draw of clips is used for all systems, so that what is
common to them cancels in the difference. Shapes: C clips, R resamples, N samples of a clip, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import stats

if TYPE_CHECKING:  # torch is loaded only if there are features
    from metrics.functional.frechet import Moments

RESAMPLES = 200
MIN_CLIPS = 3  # fewer clips have no useful interval
MAX_BYTES = 2**31  # of the outer products of all clips; above it, they are computed again for each resample


class ClipScores(Protocol):
    """Score of a set of clips, computed from what is known of each clip."""

    def scores(self, times: np.ndarray) -> np.ndarray:
        """Computes the score of R weighted sets of clips.

        Args:
            times: (R, C) int, how often each clip is counted.

        Returns:
            (R,) float64; NaN where a set has too few samples.
        """
        ...


@dataclass(frozen=True)
class ClipMeans:
    """Score that is the mean of one value per clip, such as Sync-C.

    Attributes:
        values: (C,) values.
    """

    values: np.ndarray

    def scores(self, times: np.ndarray) -> np.ndarray:
        """Computes the means; see ``ClipScores``."""
        return (times @ self.values) / times.sum(axis=1)


@dataclass(frozen=True)
class ClipFeatures:
    """Fréchet distance of the pooled features of all clips, such as FID.

    Attributes:
        reference: C arrays (N, D) of the real videos.
        generated: C arrays (N, D) of the generated videos.
        convention: Convention of the distance, see ``metrics.functional.frechet``.
    """

    reference: Sequence[np.ndarray]
    generated: Sequence[np.ndarray]
    convention: str

    def scores(self, times: np.ndarray) -> np.ndarray:
        """Computes the distances; see ``ClipScores``."""
        # Imported here: tables without features are made without loading torch.
        from metrics.functional.frechet import ddof_of, distance_between, gaussian

        ddof = ddof_of(self.convention)
        sides = [_SideSums(rows) for rows in (self.reference, self.generated)]
        found = np.full(len(times), np.nan)
        for place, row in enumerate(times):
            if min(int(row @ side.sizes) for side in sides) >= 2:
                one, two = (gaussian(side.moments(row), ddof) for side in sides)
                found[place] = float(distance_between(one, two, self.convention))
        return found


class _SideSums:
    """Sums over the samples of each clip of one side: number, sum and outer product."""

    def __init__(self, clips: Sequence[np.ndarray]) -> None:
        self.clips = clips
        self.sizes = np.array([len(rows) for rows in clips], int)
        self._totals = np.stack([rows.sum(axis=0, dtype=np.float64) for rows in clips])
        dimensions = self._totals.shape[1]
        self._outer: np.ndarray | None = None
        if int(self.sizes.sum()) >= dimensions and len(clips) * dimensions**2 * 8 <= MAX_BYTES:
            self._outer = np.stack([_outer(rows) for rows in clips])

    def moments(self, times: np.ndarray) -> Moments:
        """Returns the moments with each clip counted ``times`` times."""
        import torch

        from metrics.functional.frechet import Moments, no_moments

        count, dimensions = int(times @ self.sizes), self._totals.shape[1]
        if count < dimensions:  # the samples themselves: their covariance is singular
            rows = np.concatenate([np.tile(rows, (copies, 1)) for rows, copies in zip(self.clips, times, strict=True)])
            return no_moments(dimensions)._replace(kept=torch.from_numpy(rows.astype(np.float64)))
        if self._outer is None:
            outer = sum(copies * _outer(rows) for rows, copies in zip(self.clips, times, strict=True) if copies)
        else:
            outer = np.tensordot(times.astype(np.float64), self._outer, 1)
        total = torch.from_numpy(times @ self._totals)
        return Moments(torch.tensor(count), total, torch.from_numpy(np.asarray(outer)), total.new_zeros(0, dimensions))


def _outer(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return wide.T @ wide


@dataclass(frozen=True)
class Resampled:
    """Score of one system and its resamples.

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


@dataclass(frozen=True)
class Difference:
    """Difference of two scores with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def draw_clips(clips: int, resamples: int, seed: int) -> np.ndarray:
    """Draws (R, C) int: how often each clip is in each resample. Equal for all systems with the same clips."""
    draws = np.random.default_rng(seed).integers(0, clips, (resamples, clips))
    return np.stack([np.bincount(row, minlength=clips) for row in draws])


def resampled(runs: Sequence[tuple[float, np.ndarray]], clips: int, seed: int) -> Resampled:
    """Combines the runs of one system; several runs are resampled too.

    Args:
        runs: For each run its score of all clips, and its (R,) scores of the draws of ``draw_clips``.
        clips: Number of clips C.
        seed: Seed of the draw of runs; must differ between systems.
    """
    scores = np.stack([draws for _, draws in runs])  # (runs, R)
    count, resamples = scores.shape
    chosen = np.random.default_rng(seed).integers(0, count, (count, resamples)) if count > 1 else np.zeros((1, 1), int)
    draws = scores[chosen, np.arange(resamples)].mean(axis=0)
    values = tuple(value for value, _ in runs)
    return Resampled(float(np.mean(values)), draws, clips, values)


def paired_difference(one: Resampled, other: Resampled) -> Difference:
    """Computes ``one`` minus ``other`` with a 95 % interval: Student's t times the bootstrap's standard error.

    Percentiles of the draws would be biased for Fréchet distances, which are larger for fewer distinct clips. For a
    mean over clips the interval tends to that of a paired t test.

    Raises:
        ValueError: If the scores are of different numbers of clips, or of fewer than three.
    """
    if one.clips != other.clips or one.clips < MIN_CLIPS:
        raise ValueError(f"scores of {one.clips} and {other.clips} clips, expected equal numbers, at least {MIN_CLIPS}")
    draws = one.draws - other.draws
    error = float(np.std(draws[np.isfinite(draws)], ddof=1)) * (one.clips / (one.clips - 1)) ** 0.5
    half = float(stats.t.ppf(0.975, one.clips - 1)) * error
    value = one.value - other.value
    return Difference(value, value - half, value + half)
