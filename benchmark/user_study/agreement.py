"""Agreement of raters and intervals of means.

Shapes: R raters, U rated clips of all systems, C clips of one system; NaN for missing ratings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


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


def within_systems(ratings: np.ndarray, systems: Sequence[str]) -> np.ndarray:
    """Removes the mean of each system from (R, U) ratings.

    Without this, raters seem to agree because some systems are plainly better than others.

    Args:
        ratings: (R, U) float, without NaN.
        systems: (U,) system of each rated clip.
    """
    centred = ratings.copy()
    for system in dict.fromkeys(systems):
        own = [one == system for one in systems]
        centred[:, own] -= ratings[:, own].mean()
    return centred


def two_way_interval(ratings: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of a mean over new raters and new clips, from a two-way model with random raters and clips.

    y_rc = mean + a_r + b_c + e_rc. The variance of the mean is s_a^2 / R + s_b^2 / C + s_e^2 / (R C), whose parts
    are estimated from the mean squares and are at least 0. Student's t has Satterthwaite's degrees of freedom
    (Searle, Casella & McCulloch, Variance Components, 1992, sections 4.5 and 5.1).

    Args:
        ratings: (R, C) float: of one system, or differences of two systems for the same raters and clips.

    Returns:
        Lower and upper end; None with fewer than two raters or clips.
    """
    raters, clips = ratings.shape
    if min(raters, clips) < 2:
        return None
    mean = ratings.mean()
    rows, columns = ratings.mean(axis=1) - mean, ratings.mean(axis=0) - mean
    residual = ratings - mean - rows[:, None] - columns
    freedom = np.array([raters - 1, clips - 1, (raters - 1) * (clips - 1)], float)
    squares = np.array([clips * rows @ rows, raters * columns @ columns, (residual**2).sum()]) / freedom
    # The mean's variance times R C is MS_raters + MS_clips - MS_residual; a component below 0 is left out.
    weights = np.array([1.0, 1.0, -1.0])
    if squares[0] < squares[2]:
        weights -= (1, 0, -1)
    if squares[1] < squares[2]:
        weights -= (0, 1, -1)
    variance = float(weights @ squares)
    if variance <= 0:
        return float(mean), float(mean)
    nu = variance**2 / float(((weights * squares) ** 2 / freedom).sum())
    half = float(stats.t.ppf(0.975, nu)) * (variance / ratings.size) ** 0.5
    return float(mean - half), float(mean + half)
