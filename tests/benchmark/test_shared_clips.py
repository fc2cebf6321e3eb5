"""Differences on shared clips, compared with paired t tests and by simulation."""

import numpy as np
import pytest
from scipy import stats

from benchmark.tables.shared_clips import RowScore, difference_of, draw_clips, mean_over_runs
from metrics.functional.bootstrap import FrechetBootstrap


def row(scores, clips, seed=0, resamples=4000):
    """Resamples one run."""
    times = draw_clips(clips, resamples, 0)
    return mean_over_runs([(float(scores(np.ones((1, clips), int))[0]), scores(times))], clips, seed)


def mean_of(values):
    return lambda times: times @ values / times.sum(axis=1)


def test_a_difference_of_means_has_the_interval_of_a_paired_t_test():
    draw = np.random.default_rng(0)
    common = draw.normal(0, 3, 12)  # what makes clips easy or hard, for both systems
    one, other = common + draw.normal(0.5, 0.2, 12), common + draw.normal(0, 0.2, 12)
    found = difference_of(row(mean_of(one), 12), row(mean_of(other), 12, seed=1))
    test = stats.ttest_rel(one, other).confidence_interval()
    assert found.value == pytest.approx((one - other).mean())
    assert (found.low, found.high) == pytest.approx((test.low, test.high), rel=0.05)
    assert found.decided
    assert not difference_of(row(mean_of(other), 12), row(mean_of(other), 12)).decided


def test_all_systems_have_the_same_draws_of_clips_and_each_its_own_of_runs():
    assert (draw_clips(7, 50, 0) == draw_clips(7, 50, 0)).all()
    assert (draw_clips(7, 50, 0).sum(axis=1) == 7).all()
    runs = [(1.0, np.full(50, 1.0)), (3.0, np.full(50, 3.0))]
    one, other = mean_over_runs(runs, 7, seed=1), mean_over_runs(runs, 7, seed=2)
    assert one.value == 2.0
    assert set(np.unique(one.draws)) == {1.0, 2.0, 3.0}
    assert (one.draws != other.draws).any()


def test_scores_of_other_clips_are_refused():
    one, other = (RowScore(0.0, np.zeros(3), clips, (0.0,)) for clips in (4, 5))
    with pytest.raises(ValueError, match="scores of 4 and 5 clips, expected equal numbers, at least 3"):
        difference_of(one, other)


def test_the_interval_covers_the_difference_of_frechet_distances():
    """20 clips of 5 frames; the difference at this number of clips is measured with 300 sets."""
    draw = np.random.default_rng(3)

    def once():
        shift = draw.normal(0, 0.5, (20, 1, 4))
        real = shift + draw.normal(size=(20, 5, 4))
        made = [real + bias + draw.normal(0, 0.5, (20, 5, 4)) for bias in (0.6, 0.4)]
        return [FrechetBootstrap(list(real), list(side)).distances for side in made]

    whole = np.ones((1, 20), int)
    truth = np.mean([float(np.subtract(*(scores(whole)[0] for scores in once()))) for _ in range(300)])
    covered = 0
    for _ in range(60):
        one, other = (row(scores, 20, resamples=60) for scores in once())
        difference = difference_of(one, other)
        covered += difference.low <= truth <= difference.high
    assert covered >= 0.88 * 60  # 95 %, less two standard errors of 60 trials
