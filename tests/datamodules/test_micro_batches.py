"""Micro-batches do not depend on the number of ranks, have windows of their own length, and leave ranks little idle."""

import itertools
from dataclasses import replace

import pytest
import torch

from configs.data import DataConfig
from configs.errors import ConfigError
from datamodules.clip_windows import micro_batches
from datamodules.datamodule import ShardDataModule
from datamodules.loader import StreamDataset
from datamodules.order import LengthOrder, MixtureOrder, StreamOrder
from datamodules.schema import ShardError
from tests.helpers.shards import make_shards
from tools.profiling.window_lengths import DATASETS, dataset_of, measure

FRAMES = (30, 33, 36, 45, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    make_shards(path, samples=20, frames=FRAMES, splits=("train",), speech=False)
    return path


@pytest.fixture(scope="module")
def config(folder):
    sizes = {"window": 40, "pad": False, "batch_size": 8, "micro_batch": 2, "steps_per_epoch": 6}
    return DataConfig(name="folder", root=str(folder), fields=["lip"], workers=0, seed=5, **sizes)


def of_rank(config, rank: int, ranks: int) -> StreamDataset:
    """Training data of one of several ranks, without their processes."""
    dataset = ShardDataModule(config).train_dataloader().dataset
    settings = {name: getattr(dataset, name) for name in ("batch_size", "micro_batch", "window", "pad", "seed")}
    return StreamDataset(dataset.clips, dataset.order, dataset.reader, **settings, rank=rank, ranks=ranks)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("ranks", [2, 8, 64])
def test_any_number_of_ranks_reads_the_same_micro_batches(config, ranks, pad):
    config = replace(config, batch_size=64, micro_batch=1, pad=pad)
    alone = of_rank(config, 0, 1)
    for step in range(2):
        whole = micro_batches(alone[step])
        assert len(whole) == 64
        found = [micro_batches(of_rank(config, rank, ranks)[step]) for rank in range(ranks)]
        assert {len(parts) for parts in found} == {64 // ranks}
        for number, one in enumerate(whole):
            other = found[number % ranks][number // ranks]
            assert one.keys() == other.keys()
            for name, value in one.items():
                assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]


def test_a_window_is_as_long_as_the_shortest_clip_of_its_micro_batch(config):
    dataset = of_rank(config, 0, 2)
    lengths = set()
    for step in range(10):
        parts = dataset.micro_batches(step)
        assert [len(part.windows) for part in parts] == [2] * 4
        for part in parts:
            shortest = min(40, *(window.clip.entry.frames for window in part.windows))
            assert {part.length} == {window.frames for window in part.windows} == {shortest}
        lengths.add(tuple(part.length for part in parts))
    assert any(len(set(of_step)) > 1 for of_step in lengths)
    assert any(40 in of_step for of_step in lengths)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_processes_transfer_several_micro_batches(config, workers):
    loader = ShardDataModule(config, workers=workers).train_dataloader()
    batches = list(itertools.islice(loader, 6))
    for step, batch in enumerate(batches):
        assert len(batch) == 4
        for one, other in zip(batch, loader.dataset[step], strict=True):
            assert one["draw"].tolist() == other["draw"].tolist()
            assert torch.equal(one["lip"], other["lip"])
    loader.close()


@pytest.mark.parametrize("size", [1, 4, 7, 16])
def test_each_sample_once_per_pass(size):
    lengths = [20 + 7 * i % 50 for i in range(150)]
    shards = [i // 10 for i in range(150)]
    order = LengthOrder(StreamOrder(shards, size, 3), lengths, size, 3, period=150)
    draws = [order.draw(number) for number in range(4 * 150)]
    for turn in range(4):
        of_pass = draws[turn * 150 : (turn + 1) * 150]
        assert {draw.pass_ for draw in of_pass} == {turn}
        assert sorted(draw.sample for draw in of_pass) == list(range(150))
    again = LengthOrder(StreamOrder(shards, size, 3), lengths, size, 3, period=150)
    assert [again.draw(number) for number in reversed(range(600))] == draws[::-1]  # a function of the number alone
    other = LengthOrder(StreamOrder(shards, size, 4), lengths, size, 4, period=150)
    assert [other.draw(number) for number in range(600)] != draws


def test_a_mixture_keeps_its_weights_and_passes():
    mixture = MixtureOrder([[0] * 12, [0] * 30], (1, 3), 8, 0)
    order = LengthOrder(mixture, [30] * 12 + list(range(20, 50)), 8, 0)
    count = 16 * 8 * 3
    draws = [order.draw(number) for number in range(count)]
    assert sorted(draws) == sorted(mixture.draw(number) for number in range(count))
    assert sum(draw.sample < 12 for draw in draws) == count / 4


def test_clips_of_the_windows_length_keep_their_order_within_a_batch():
    plain = StreamOrder([0] * 64, 8, 0)
    order = LengthOrder(plain, [120] * 64, 8, 0, period=64, batches=4)
    batches = {tuple(plain.draw(number) for number in range(8 * step, 8 * step + 8)) for step in range(8)}
    assert {tuple(order.draw(number) for number in range(8 * step, 8 * step + 8)) for step in range(8)} == batches


@pytest.mark.parametrize("ranks", [8, 64])
@pytest.mark.parametrize("name", DATASETS)
def test_ranks_idle_at_most_a_tenth_of_the_time(name, ranks):
    before, after = (measure(dataset_of(name, 3200, ranks, sort=sort), ranks) for sort in (False, True))
    assert after.idle <= 0.03
    assert after.idle <= before.idle
    assert after.full == pytest.approx(before.full)
    if name == "mead":
        assert before.idle > 0.15
        one_length = measure(dataset_of(name, 3200, ranks, micro_batch=None), ranks)
        assert one_length.full < 0.01 < 0.2 < after.full


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 8, "micro_batch": 3}, "data.micro_batch=3: does not divide data.batch_size=8; choose one of 1"),
        ({"micro_batch": 0}, "data.micro_batch=0: expected a number above 0"),
    ],
)
def test_a_micro_batch_that_does_not_divide_is_refused(config, changes, message):
    with pytest.raises(ConfigError, match=message):
        ShardDataModule(config, **changes)


def test_more_ranks_than_micro_batches_are_refused(config):
    with pytest.raises(ValueError, match="ranks, 8 times data.micro_batch=2; set it to 16, or run on 1, 2, 4"):
        of_rank(config, 0, 8)


def test_checkpoints_without_micro_batches_are_of_runs_with_null(config):
    """The windows of a padded run do not depend on micro-batches."""
    for pad in (False, True):
        loader = ShardDataModule(config, pad=pad, micro_batch=None).train_dataloader()
        state = loader.state_dict()
        before = {name: value for name, value in state["fingerprint"].items() if name != "data.micro_batch"}
        loader.load_state_dict({**state, "fingerprint": before})
        now = ShardDataModule(config, pad=pad).train_dataloader()
        if pad:
            now.load_state_dict({**state, "fingerprint": before})
        else:
            with pytest.raises(ShardError, match="data.micro_batch: was null, is 2"):
                now.load_state_dict({**state, "fingerprint": before})
