"""Training order: every sample once per pass, equal on every machine, contiguous for every stream."""

import pickle
from collections import Counter

import numpy as np
import pytest

from datamodules.order import (
    MixtureOrder,
    RepeatedOrder,
    StreamOrder,
    occurrences,
    permutation,
    reference_choice,
    seed_of,
    step_seed,
    window_start,
)


def _shards(sizes):
    return [shard for shard, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize("streams", [1, 3, 4, 7, 50])
@pytest.mark.parametrize("sizes", [(1,), (5, 9, 1), (10, 10, 10)])
def test_each_sample_once_per_pass(sizes, streams):
    order = StreamOrder(_shards(sizes), streams, seed=3)
    count = sum(sizes)
    for pass_ in range(4):
        draws = [order.draw(g) for g in range(pass_ * count, (pass_ + 1) * count)]
        assert {draw.pass_ for draw in draws} == {pass_}
        assert sorted(draw.sample for draw in draws) == list(range(count))


def test_passes_and_seeds_differ():
    orders = [StreamOrder(_shards((20, 20)), 4, seed) for seed in (0, 1)]
    rows = {tuple(order.draw(g).sample for g in range(p * 40, p * 40 + 40)) for order in orders for p in range(3)}
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("sizes", "streams"), [((30, 30, 30, 30), 4), ((30, 31, 29, 28), 4), ((100,), 8), ((8,) * 9, 5)]
)
def test_a_stream_finishes_each_shard_before_the_next(sizes, streams):
    """Each shard occurs in one run of a stream, and a stream needs at most one shard more than its length requires."""
    shard_of = _shards(sizes)
    order = StreamOrder(shard_of, streams, seed=1)
    count, rows = len(shard_of), -(-len(shard_of) // streams)
    for pass_ in range(3):
        columns = [[] for _ in range(streams)]
        for g in range(pass_ * count, (pass_ + 1) * count):
            columns[g % streams].append(shard_of[order.draw(g).sample])
        for column in columns:
            runs = 1 + sum(a != b for a, b in zip(column, column[1:], strict=False))
            assert runs == len(set(column))
            assert runs <= -(-rows // min(sizes)) + 1


def test_the_order_never_changes():
    """A change of these values breaks the resuming of older runs and requires a new ORDER_VERSION."""
    # The first 8 bytes of BLAKE2b-64 of "shards", "0", "0" joined by 0x1f, little-endian.
    assert seed_of("shards", 0, 0) == 2458071675066828380
    assert permutation(8, 0).tolist() == splitmix_ranks(8)


def splitmix_ranks(count):
    """The SplitMix64 reference generator with seed 0, in Python integers."""
    state, values, mask = 0, [], 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        values.append(z ^ (z >> 31))
    assert values[0] == 0xE220A8397B1DCDAF  # the published first output for seed 0
    return sorted(range(count), key=values.__getitem__)


def test_permutations_are_uniform():
    """All 6 permutations of 3 are equally frequent: chi-square with 5 degrees of freedom, 99.99 % quantile 25.7."""
    counts = Counter(tuple(permutation(3, seed_of(seed))) for seed in range(6000))
    assert len(counts) == 6
    assert sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 25.7


@pytest.mark.parametrize("weights", [(1, 1), (1, 2), (3, 1, 2), (5, 7)])
def test_mixture_draws_every_dataset_by_its_weight(weights):
    sizes = (6, 11, 4)[: len(weights)]
    mixture = MixtureOrder([_shards((size,)) for size in sizes], weights, streams=4, seed=0)
    total = sum(weights)
    numbers = [mixture.draw(g).sample for g in range(total * 60)]
    datasets = np.searchsorted(np.cumsum((0, *sizes)), numbers, side="right") - 1
    for start in range(0, total * 59):  # any window of sum(weights) draws, not only aligned ones
        assert tuple(np.bincount(datasets[start : start + total], minlength=len(weights))) == weights
    for d, size in enumerate(sizes):
        own = [n for n, dataset in zip(numbers, datasets, strict=True) if dataset == d]
        for pass_ in range(len(own) // size):
            assert len(set(own[pass_ * size : (pass_ + 1) * size])) == size


def test_mixture_is_evenly_spread():
    """After any number of draws, the count of each dataset is within one draw of its share."""
    weights = (5, 3, 1)
    pattern = MixtureOrder([[0] * 9] * 3, weights, 1, 0).pattern
    for j in range(len(pattern)):
        for d, weight in enumerate(weights):
            assert abs(pattern[:j].count(d) - j * weight / sum(weights)) <= 1


@pytest.mark.parametrize(("shards", "weights"), [([[0], [0]], (1,)), ([[0], [0]], (1, 0)), ([[0], []], (1, 1))])
def test_invalid_mixtures_are_rejected(shards, weights):
    with pytest.raises(ValueError, match="expected .*at least 1"):
        MixtureOrder(shards, weights, 2, 0)


def test_orders_survive_pickling():
    order = MixtureOrder([_shards((3, 4)), _shards((5,))], (1, 2), 4, 9)
    again = pickle.loads(pickle.dumps(order))
    assert [order.draw(g) for g in range(100)] == [again.draw(g) for g in range(100)]


def test_window_starts_are_uniform_with_clamped_ends():
    starts = [window_start(0, "clip", pass_, 50, 41) for pass_ in range(5000)]
    counts = np.bincount(starts, minlength=10)
    assert len(counts) == 10
    expected = 5000 / 20 * np.array([6, 1, 1, 1, 1, 1, 1, 1, 1, 6])  # 5 starts beyond each end are clamped
    assert ((counts - expected) ** 2 / expected).sum() < 33.7  # chi-square with 9 degrees of freedom, 99.99 % quantile
    assert window_start(0, "clip", 0, 41, 41) == window_start(0, "clip", 0, 30, 41) == 0


def test_frames_at_the_ends_are_drawn_as_often_as_in_the_middle():
    seen = np.zeros(150)
    for pass_ in range(8000):
        start = window_start(3, "clip", pass_, 150, 24)
        seen[start : start + 24] += 1
    middle = seen[40:110].mean()
    assert seen.min() > 0.85 * middle  # 24 in 173 draws, +- 3 %
    assert seen[[0, -1]] == pytest.approx(middle, rel=0.15)


def test_every_portrait_is_drawn():
    assert {reference_choice(0, "clip", pass_, 4) for pass_ in range(400)} == {0, 1, 2, 3}


def test_step_seed_fits_torch_and_depends_on_both():
    seeds = {step_seed(key, step) for key in ("a", "b") for step in range(500)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_clip_occurs_as_often_as_its_frames_fill_windows():
    assert occurrences(np.array([24, 120, 179, 180, 500]), 120).tolist() == [1, 1, 1, 2, 4]


def test_each_occurrence_of_a_sample_has_its_own_window():
    """Numbers of the windows of a sample go on from pass to pass."""
    counts = np.array([1, 4, 2, 1])
    order = RepeatedOrder(StreamOrder(np.repeat([0, 0, 1, 1], counts), 3, seed=1), counts)
    assert len(order) == 8
    draws = [order.draw(number) for number in range(3 * 8)]
    for sample, count in enumerate(counts.tolist()):
        windows = [draw.pass_ for draw in draws if draw.sample == sample]
        assert sorted(windows) == list(range(3 * count))
        assert {window // count for window in windows[:count]} == {0}
    assert pickle.loads(pickle.dumps(order)).draw(5) == order.draw(5)
