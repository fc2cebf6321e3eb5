"""Bootstrap of Fréchet distances against direct computation, its paired difference, and the extrapolation."""

import numpy as np
import pytest
import torch

from metrics.functional.bootstrap import (
    FrechetBootstrap,
    paired_difference,
    paired_difference_of,
    resampled,
)
from metrics.functional.frechet import frechet_distance
from tests.helpers.refusals import refuses


def clips(count, frames, dimensions, seed, shift=0.0, scale=1.0):
    """Features of clips whose frames are alike."""
    draw = torch.Generator().manual_seed(seed)
    centres = 0.5 * torch.randn(count, 1, dimensions, generator=draw)
    return list(shift + scale * (centres + torch.randn(count, frames, dimensions, generator=draw)))


@pytest.mark.parametrize("convention", ["pytorch-fid", "stylegan-v", "tfgan"])
@pytest.mark.parametrize(("count", "frames", "dimensions"), [(9, 3, 40), (9, 6, 40), (8, 20, 12), (7, 1, 16)])
def test_distances_of_resamples_are_exact(count, frames, dimensions, convention):
    real, made = clips(count, frames, dimensions, 0), clips(count, frames, dimensions, 1, 0.3, 1.2)
    times = np.concatenate([resampled(count, 4, seed=0), np.ones((1, count), int)])
    found = FrechetBootstrap(real, made, convention).distances(times)
    for row, value in zip(times.tolist(), found, strict=True):
        sides = [
            torch.cat([part.double().repeat(k, 1) for part, k in zip(side, row, strict=True)]) for side in (real, made)
        ]
        assert value == pytest.approx(float(frechet_distance(*sides, convention)), rel=1e-9)


@pytest.mark.parametrize(("count", "frames", "dimensions"), [(40, 5, 8), (20, 10, 16), (30, 4, 4)])
def test_the_influence_function_gives_the_spread_over_new_sets(count, frames, dimensions):
    everything, values, errors = np.ones((1, count), int), [], []
    for seed in range(200):
        real = clips(count, frames, dimensions, 2 * seed)
        bootstrap = FrechetBootstrap(real, clips(count, frames, dimensions, 2 * seed + 1, 0.3, 1.2))
        values.append(bootstrap.distances(everything)[0])
        error, method = bootstrap.standard_error(resamples=2, seed=0)
        errors.append(error)
    assert method == "influence function"
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.15)  # 200 values: 5 %


def test_the_influence_function_is_the_derivative():
    real, made = clips(9, 20, 6, 0), clips(9, 20, 6, 1, 0.3, 1.2)
    bootstrap = FrechetBootstrap(real, made, "stylegan-v")
    found = bootstrap.influences()
    assert found.sum() == pytest.approx(0, abs=1e-9)
    for place in (0, 4):
        times = np.full((2, 9), 10_000)
        times[:, place] += (1, -1)
        up, down = bootstrap.distances(times)
        assert found[place] == pytest.approx((up - down) / 2e-4, rel=1e-4)


def test_few_samples_and_singular_covariances_are_resampled():
    few = FrechetBootstrap(clips(9, 3, 40, 0), clips(9, 3, 40, 1))
    assert not few.many
    exact = np.std(few.distances(resampled(9, 20, 0)), ddof=1)
    assert few.standard_error(20, seed=0) == (pytest.approx(exact), "bootstrap")
    flat = [torch.cat([part, torch.ones(20, 1)], dim=1) for part in clips(9, 20, 6, 0)]
    singular = FrechetBootstrap(flat, flat[::-1])
    assert singular.many
    assert singular.influences() is None
    exact = np.std(singular.distances(resampled(9, 20, 0)), ddof=1)
    assert singular.standard_error(20, seed=0) == (pytest.approx(exact), "bootstrap")


def test_resample_with_one_sample_has_no_distance():
    bootstrap = FrechetBootstrap(clips(3, 1, 4, 0), clips(3, 1, 4, 1))
    values = bootstrap.distances(np.array([[1, 0, 0], [1, 1, 1]]))
    assert np.isnan(values[0])
    assert np.isfinite(values[1])
    refuses(ValueError, "features of 3 and 2 clips", FrechetBootstrap, clips(3, 1, 4, 0), clips(2, 1, 4, 1))


def test_extrapolation_removes_most_of_the_bias():
    real, made = clips(40, 1, 16, 0), clips(40, 1, 16, 1)  # one distribution: the true distance is 0
    bootstrap = FrechetBootstrap(real, made)
    biased = float(bootstrap.distances(np.ones((1, 40), int))[0])
    assert abs(bootstrap.without_bias(seed=0)) < 0.35 * biased
    assert FrechetBootstrap(real[:5], made[:5]).without_bias(seed=0) is None


def test_paired_difference_uses_the_same_clips():
    draw = np.random.default_rng(0)
    hard = draw.normal(0, 5, 30)  # differences between clips are much larger than between systems
    one, two = hard + 1 + draw.normal(0, 0.5, 30), hard + draw.normal(0, 0.5, 30)
    found = paired_difference(one, two)
    assert found.value == pytest.approx((one - two).mean())
    assert found.samples.std(ddof=1) == pytest.approx((one - two).std(ddof=1) / np.sqrt(30), rel=0.1)
    assert found.decided
    assert found.low < found.value < found.high
    assert not paired_difference(one, one + 1e-9 * draw.normal(size=30)).decided
    refuses(ValueError, r"found \(30,\) and \(29,\) clips", paired_difference, one, two[1:])


def test_paired_difference_of_frechet_distances():
    real = clips(12, 8, 6, 0)
    near, far = clips(12, 8, 6, 1, 0.1), clips(12, 8, 6, 1, 1.5)
    scores = [FrechetBootstrap(real, made).distances for made in (near, far)]
    found = paired_difference_of(*scores, clips=12, resamples=100)
    assert found.high < 0
    assert len(found.samples) == 100
