"""Bootstrap over clips: standard errors, paired differences, and values without the bias of few samples.

Clips are resampled, not frames, since frames of a clip are alike. A resample is its (C,) counts w of the clips. The
Fréchet distance of a resample is exact:

    few samples       |A_1^T A_2|_* from the (N, M) Gram matrix X Y^T, centred and scaled by w, without clips of w = 0
    many samples      mean and covariance from sums of w x and w x x^T over clips, for many resamples in one pass

With many samples the standard error is that of the distance's derivative by w (influence function; the infinitesimal
jackknife of Efron, 1982). It needs no resamples, and is nearer to the spread over new sets: repeated clips reduce a
covariance by chance, so resamples of high-dimensional features spread too much (1.8 times in simulations).

Shapes: C clips, N and M samples of the two sides, D dimensions, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metrics.functional.frechet import Gaussian, Moments, ddof_of, distance_between, gaussian

Z = 1.96  # standard errors of a 95 % interval
MEMORY = 2**31  # bytes of second moments, and of a Gram matrix, kept at a time
GRAM = 1.25  # a Gram matrix is used up to this number of different samples per dimension
MANY = 2  # samples per dimension from which the influence function gives the standard error
ROUNDING = 1e-15  # smallest eigenvalue of S_1 S_2, relative to the largest; smaller ones are rounding errors
FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9)  # shares of the clips from which a value is extrapolated
SUBSETS = 8  # subsets per share; one where a distance takes seconds
LARGE = 512  # dimensions
Scores = Callable[[np.ndarray], np.ndarray]


def resampled(clips: int, resamples: int, seed: int) -> np.ndarray:
    """Draws resamples of the clips with replacement: (R, C) counts."""
    draw = np.random.default_rng(seed)
    return np.stack([np.bincount(draw.integers(0, clips, clips), minlength=clips) for _ in range(resamples)])


class FrechetBootstrap:
    """Fréchet distances of resampled clips.

    Args:
        reference: (N_c, D) features of each clip, real side.
        generated: (M_c, D) features of the same clips.
        convention: Convention of the Fréchet distance, see ``metrics.functional.frechet``.
        device: Device of the computation.

    Examples:
        >>> import torch
        >>> from metrics.functional.bootstrap import FrechetBootstrap
        >>> real, fake = ([torch.randn(20, 4) for _ in range(9)] for _ in range(2))
        >>> error, method = FrechetBootstrap(real, fake).standard_error(resamples=50, seed=0)
        >>> method
        'influence function'

    Raises:
        ValueError: If the sides differ in clips or dimensions.
    """

    def __init__(
        self,
        reference: Sequence[np.ndarray | Tensor],
        generated: Sequence[np.ndarray | Tensor],
        convention: str = "pytorch-fid",
        device: torch.device | str = "cpu",
    ) -> None:
        if len(reference) != len(generated) or not reference:
            raise ValueError(f"found features of {len(reference)} and {len(generated)} clips, expected equal numbers")
        self.convention, self.ddof = convention, ddof_of(convention)
        sides = [[torch.as_tensor(one).to(device).double() for one in side] for side in (reference, generated)]
        self.clips = len(reference)
        self.dimensions = sides[0][0].shape[1]
        self.sizes = [torch.tensor([len(one) for one in side], device=device) for side in sides]
        shift = torch.cat(sides[0]).mean(dim=0)  # a distance does not change; its sums round less
        self._samples = [torch.cat(side) - shift for side in sides]
        self._owner = [torch.arange(self.clips, device=device).repeat_interleave(size) for size in self.sizes]
        self._sums = [_per_clip(x, owner, self.clips) for x, owner in zip(self._samples, self._owner, strict=True)]
        self._squares = [
            _per_clip(x.square().sum(dim=1), owner, self.clips)
            for x, owner in zip(self._samples, self._owner, strict=True)
        ]
        counts = [len(x) for x in self._samples]
        small = min(counts) < MANY * self.dimensions and counts[0] * counts[1] * 8 <= MEMORY
        self._gram = self._samples[0] @ self._samples[1].T if small and convention != "tfgan" else None

    def distances(self, times: np.ndarray) -> np.ndarray:
        """Computes the exact distance of each resample.

        Args:
            times: (R, C) how often each clip is used.

        Returns:
            (R,) float64 distances; NaN for resamples with fewer than two samples on a side.
        """
        counts = torch.as_tensor(np.atleast_2d(times), device=self._samples[0].device)
        found = torch.full((len(counts),), torch.nan, dtype=torch.float64)
        dense: list[int] = []
        for index, row in enumerate(counts):
            if min(int(row @ size) for size in self.sizes) < 2:
                continue
            different = min(int((row > 0).long() @ size) for size in self.sizes)
            if self._gram is not None and different <= GRAM * self.dimensions:
                found[index] = self._from_gram(row)
            else:
                dense.append(index)
        block = max(1, MEMORY // (2 * 8 * self.dimensions**2))
        for start in range(0, len(dense), block):
            rows = dense[start : start + block]
            found[rows] = self._from_sums(counts[rows])
        return found.numpy()

    def standard_error(self, resamples: int, seed: int) -> tuple[float, str]:
        """Computes the standard error of the distance over resampled clips.

        Args:
            resamples: Number of resamples; not used with many samples.
            seed: Seed of the resampling.

        Returns:
            The error, and ``influence function`` or ``bootstrap``.
        """
        if self.many and (found := self.influences()) is not None:
            return float((self.clips * found.var()) ** 0.5), "influence function"
        return float(np.nanstd(self.distances(resampled(self.clips, resamples, seed)), ddof=1)), "bootstrap"

    def draws(self, times: np.ndarray) -> np.ndarray:
        """Computes distances of resamples whose spread is that over new sets of clips, for differences of systems.

        With many samples they are linear in the counts, by the influence function: exact ones spread too much. With few
        samples they are exact, so that intervals are too wide rather than too narrow.

        Args:
            times: (R, C) how often each clip is used.

        Returns:
            (R,) float64 distances.
        """
        if not self.many or (influences := self.influences()) is None:
            return self.distances(times)
        return self.distances(np.ones((1, self.clips), int)) + (times - 1) @ influences

    @property
    def many(self) -> bool:
        """Whether there are so many samples that the influence function gives the standard error."""
        return min(map(len, self._samples)) >= MANY * self.dimensions and self.convention != "tfgan"

    def influences(self) -> np.ndarray | None:
        """Computes the derivative of the distance by the weight of each clip, at equal weights.

        With a centred sample z, S_1 = L L^T and the optimal map T = L^-T (L^T S_2 L)^(1/2) L^-1, a clip of side 1 adds

            sum over its samples of  |z|^2 - z^T T z + 2 z . (mu_1 - mu_2)  less the mean over all samples,

        divided by the number of samples. Side 2 has T^-1 and mu_2 - mu_1.

        Returns:
            (C,) derivatives; None if the covariance of side 1 is singular.
        """
        means = [x.mean(dim=0) for x in self._samples]
        centred = [x - mean for x, mean in zip(self._samples, means, strict=True)]
        counts = [len(x) - self.ddof for x in centred]
        covariances = [x.T @ x / count for x, count in zip(centred, counts, strict=True)]
        lower, failed = torch.linalg.cholesky_ex(covariances[0])
        if failed:
            return None
        squares, vectors = torch.linalg.eigh(lower.T @ covariances[1] @ lower)
        roots = squares.clamp(min=ROUNDING * float(squares[-1])).sqrt()
        maps = (  # W with T = W W^T, and the same of T^-1
            torch.linalg.solve_triangular(lower.T, vectors, upper=True) * roots.sqrt(),
            lower @ vectors / roots.sqrt(),
        )
        found = roots.new_zeros(self.clips)
        difference = means[0] - means[1]
        for side, (count, factor) in enumerate(zip(counts, maps, strict=True)):
            values = torch.cat(
                [
                    part.square().sum(dim=1) - (part @ factor).square().sum(dim=1) + (2 - 4 * side) * part @ difference
                    for part in centred[side].split(self.sizes[side].tolist())
                ]
            )
            found += _per_clip(values - values.mean(), self._owner[side], self.clips) / count
        return found.cpu().numpy()

    def without_bias(self, seed: int) -> float | None:
        """Extrapolates the distance to infinitely many clips.

        The expected distance is linear in 1 / C to first order (Chong and Forsyth, CVPR 2020). A line is fitted to the
        means over random subsets of 50 to 90 % of the clips and the value of all; its intercept is returned.

        Returns:
            The extrapolated value, which may be negative for equal distributions; None below six clips.
        """
        if self.clips < 6:
            return None
        draw = np.random.default_rng(seed)
        subsets = SUBSETS if self.dimensions <= LARGE else 1
        points = [(1 / self.clips, float(self.distances(np.ones((1, self.clips), int))[0]))]
        for size in sorted({max(2, round(share * self.clips)) for share in FRACTIONS}):
            times = np.zeros((subsets, self.clips), int)
            for row in times:
                row[draw.permutation(self.clips)[:size]] = 1
            points.append((1 / size, float(np.nanmean(self.distances(times)))))
        inverse, values = np.array(points).T
        return float(np.polynomial.polynomial.polyfit(inverse, values, 1)[0])

    def _from_gram(self, times: Tensor) -> float:
        """Distance of one resample (C,)."""
        assert self._gram is not None
        weights = [times[owner].double() for owner in self._owner]
        used = [weight > 0 for weight in weights]
        one, two = (weight[keep] for weight, keep in zip(weights, used, strict=True))
        gram = self._gram[used[0]][:, used[1]]
        counts = [weight.sum() for weight in (one, two)]
        rows, columns = gram @ two / counts[1], one @ gram / counts[0]
        gram = gram - rows[:, None] - columns + (columns @ two) / counts[1]
        gram = one.sqrt()[:, None] * gram * two.sqrt()
        scale = [count - self.ddof for count in counts]
        cross = torch.linalg.svdvals(gram).sum() / (scale[0] * scale[1]).sqrt()
        means = [times.double() @ sums / count for sums, count in zip(self._sums, counts, strict=True)]
        traces = [
            (times.double() @ squares - count * mean.square().sum()) / size
            for squares, count, mean, size in zip(self._squares, counts, means, scale, strict=True)
        ]
        return float((means[0] - means[1]).square().sum() + sum(traces) - 2 * cross)

    def _from_sums(self, times: Tensor) -> Tensor:
        """Distances of (R, C) resamples: (R,)."""
        sides = [self._gaussians(side, times) for side in (0, 1)]
        pairs = zip(*sides, strict=True)
        return torch.stack([distance_between(one, two, self.convention).cpu() for one, two in pairs])

    def _gaussians(self, side: int, times: Tensor) -> list[Gaussian]:
        """Mean and covariance of one side of each of (R, C) resamples."""
        samples, weights = self._samples[side], times.double()
        outer = samples.new_zeros(len(times), self.dimensions**2)
        parts = samples.split(self.sizes[side].tolist())
        together = max(1, MEMORY // (32 * self.dimensions**2))  # clips whose moments are added at a time
        for start in range(0, self.clips, together):
            moments = torch.stack([(part.T @ part).flatten() for part in parts[start : start + together]])
            outer.addmm_(weights[:, start : start + together], moments)
        rows = zip(times @ self.sizes[side], weights @ self._sums[side], outer, strict=True)
        return [
            gaussian(Moments(count, sums, moment.unflatten(0, (self.dimensions, -1)), samples[:0]), self.ddof)
            for count, sums, moment in rows
        ]


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two systems on the same clips, first minus second.

    Attributes:
        value: The difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
        samples: (R,) differences of the resamples.
    """

    value: float
    low: float
    high: float
    samples: np.ndarray

    @property
    def decided(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_difference(
    one: Sequence[float], two: Sequence[float], resamples: int = 1000, seed: int = 0
) -> PairedDifference:
    """Bootstraps the difference of the means of two systems; both use the same resampled clips.

    Args:
        one: (C,) statistic of each clip, first system.
        two: (C,) statistic of the same clips, second system.
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Examples:
        >>> from metrics.functional.bootstrap import paired_difference
        >>> paired_difference([3.0, 5.0, 4.0, 6.0], [1.0, 3.1, 2.0, 4.1]).decided
        True

    Raises:
        ValueError: If the systems have different numbers of clips.
    """
    values = np.asarray(one, float), np.asarray(two, float)
    if values[0].shape != values[1].shape or values[0].ndim != 1:
        raise ValueError(f"found {values[0].shape} and {values[1].shape} clips, expected two (C,) of equal length")

    def scores(value: np.ndarray) -> Scores:
        return lambda times: times @ value / times.sum(axis=1)

    return paired_difference_of(scores(values[0]), scores(values[1]), len(values[0]), resamples, seed)


def paired_difference_of(
    one: Scores, two: Scores, clips: int, resamples: int = 1000, seed: int = 0
) -> PairedDifference:
    """Bootstraps the difference of two systems whose scores are functions of the resampled clips.

    The interval is the difference plus and minus 1.96 standard deviations of the resamples, centred on the value of all
    clips: a Fréchet distance of a resample is biased upwards, since repeated clips reduce its covariance.

    Args:
        one: Function from (R, C) counts to (R,) scores of the first system, e.g. ``FrechetBootstrap(...).distances``.
        two: The same of the second system.
        clips: Number of clips C.
        resamples: Number of resamples.
        seed: Seed of the resampling.
    """
    times = resampled(clips, resamples, seed)
    everything = np.ones((1, clips), int)
    samples = one(times) - two(times)
    value = float((one(everything) - two(everything))[0])
    error = float(np.nanstd(samples, ddof=1))
    return PairedDifference(value, value - Z * error, value + Z * error, samples)


def _per_clip(values: Tensor, owner: Tensor, clips: int) -> Tensor:
    """Sums (N, ...) values by clip: (C, ...)."""
    return values.new_zeros(clips, *values.shape[1:]).index_add_(0, owner, values)
