"""Agreement of raters and intervals of means. Shapes: R raters, U rated clips; NaN for missing ratings."""

from __future__ import annotations

import numpy as np


def krippendorff_alpha(ratings: np.ndarray) -> float:
    """Krippendorff's alpha for interval data: 1 for full agreement, 0 for chance.

    alpha = 1 - D_o / D_e (Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011). D_o is the mean squared
    difference of two ratings of the same clip, each clip weighted by its number of ratings. D_e is that of any two
    ratings.

    Args:
        ratings: (R, U) float.

    Returns:
        Alpha; NaN if it is not defined: no clip with two ratings, or all ratings equal.
    """
    counts = (~np.isnan(ratings)).sum(axis=0)
    paired = ratings[:, counts >= 2]
    counts = counts[counts >= 2]
    values = paired[~np.isnan(paired)]
    total = len(values)
    if total < 2 or np.ptp(values) == 0:
        return float("nan")
    # The squared differences of all ordered pairs of n numbers sum to 2 n^2 times their variance.
    observed = float((2 * counts**2 * np.nanvar(paired, axis=0) / (counts - 1)).sum() / total)
    expected = 2 * total**2 * float(values.var()) / (total * (total - 1))
    return 1 - observed / expected


def alpha_interval(ratings: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of alpha over resampled clips. Raters are not resampled: their copies would agree perfectly."""
    draw = np.random.default_rng(seed)
    count = ratings.shape[1]
    found = [krippendorff_alpha(ratings[:, draw.integers(0, count, count)]) for _ in range(resamples)]
    defined = [alpha for alpha in found if not np.isnan(alpha)]
    if not defined:
        return float("nan"), float("nan")
    low, high = np.percentile(defined, (2.5, 97.5))
    return float(low), float(high)


def mean_interval(ratings: np.ndarray, resamples: int, seed: int) -> tuple[float, float]:
    """95 % interval of the mean of (R, U) ratings over resampled raters."""
    means = ratings.mean(axis=1)
    draws = np.random.default_rng(seed).integers(0, len(means), (resamples, len(means)))
    low, high = np.percentile(means[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
