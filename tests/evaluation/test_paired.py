"""Differences on shared clips, compared with paired t tests, with distances of repeated features, and by simulation."""

import numpy as np
import pytest
import torch
from scipy import stats

from evaluation.paired import ClipFeatures, ClipMeans, Resampled, draw_clips, paired_difference, resampled
from metrics.functional.frechet import frechet_distance

CONVENTIONS = ("pytorch-fid", "stylegan-v")


def row(scores, clips, seed=0, resamples=4000):
    """Resamples one run."""
    times = draw_clips(clips, resamples, 0)
    return resampled([(float(scores.scores(np.ones((1, clips), int))[0]), scores.scores(times))], clips, seed)


def test_a_difference_of_means_has_the_interval_of_a_paired_t_test():
    draw = np.random.default_rng(0)
    common = draw.normal(0, 3, 12)  # what makes clips easy or hard, for both systems
    one, other = common + draw.normal(0.5, 0.2, 12), common + draw.normal(0, 0.2, 12)
    found = paired_difference(row(ClipMeans(one), 12), row(ClipMeans(other), 12, seed=1))
    test = stats.ttest_rel(one, other).confidence_interval()
    assert found.value == pytest.approx((one - other).mean())
    assert (found.low, found.high) == pytest.approx((test.low, test.high), rel=0.05)
    assert found.certain
    assert not paired_difference(row(ClipMeans(other), 12), row(ClipMeans(other), 12)).certain


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dimensions", [3, 200])  # more and fewer samples than dimensions
def test_scores_are_those_of_repeated_clips(convention, dimensions):
    draw = np.random.default_rng(1)
    sides = [[draw.normal(size=(draw.integers(1, 9), dimensions)).astype(np.float32) for _ in range(6)] for _ in "12"]
    times = np.array([[1, 1, 1, 1, 1, 1], [0, 3, 1, 0, 2, 0], [0, 0, 0, 0, 0, 6]])
    found = ClipFeatures(*sides, convention).scores(times)
    for counts, value in zip(times, found, strict=True):
        one, two = (
            torch.from_numpy(np.concatenate([np.tile(rows, (count, 1)) for rows, count in zip(side, counts, strict=True)]))
            for side in sides
        )
        assert value == pytest.approx(float(frechet_distance(one, two, convention)), rel=1e-9, abs=1e-9)


def test_resamples_with_too_few_samples_are_left_out():
    features = [np.ones((1, 2), np.float32), np.zeros((1, 2), np.float32)]
    found = ClipFeatures(features, [*features[:1], np.zeros((0, 2), np.float32)], "pytorch-fid").scores(
        np.array([[1, 1], [2, 0]])
    )
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(0)


def test_all_systems_have_the_same_draws_of_clips_and_each_its_own_of_runs():
    assert (draw_clips(7, 50, 0) == draw_clips(7, 50, 0)).all()
    assert (draw_clips(7, 50, 0).sum(axis=1) == 7).all()
    runs = [(1.0, np.full(50, 1.0)), (3.0, np.full(50, 3.0))]
    one, other = resampled(runs, 7, seed=1), resampled(runs, 7, seed=2)
    assert one.value == 2.0
    assert set(np.unique(one.draws)) == {1.0, 2.0, 3.0}
    assert (one.draws != other.draws).any()


def test_scores_of_other_clips_are_refused():
    one, other = (Resampled(0.0, np.zeros(3), clips, (0.0,)) for clips in (4, 5))
    with pytest.raises(ValueError, match="scores of 4 and 5 clips, expected equal numbers, at least 3"):
        paired_difference(one, other)


def test_the_interval_covers_the_difference_of_frechet_distances():
    """20 clips of 5 frames; the difference at this number of clips is measured with 300 sets."""
    draw = np.random.default_rng(3)

    def once():
        shift = draw.normal(0, 0.5, (20, 1, 4))
        real = shift + draw.normal(size=(20, 5, 4))
        made = [real + bias + draw.normal(0, 0.5, (20, 5, 4)) for bias in (0.6, 0.4)]
        return [ClipFeatures(list(real), list(side), "pytorch-fid") for side in made]

    whole = np.ones((1, 20), int)
    truth = np.mean([float(np.subtract(*(scores.scores(whole)[0] for scores in once()))) for _ in range(300)])
    covered = 0
    for _ in range(60):
        one, other = (row(scores, 20, resamples=60) for scores in once())
        difference = paired_difference(one, other)
        covered += difference.low <= truth <= difference.high
    assert covered >= 0.88 * 60  # 95 %, less two standard errors of 60 trials
