"""Global batches are equal on any number of ranks and workers, and after interruptions."""

import copy
import itertools
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from configs.data import DataConfig
from datamodules.datamodule import ShardDataModule
from datamodules.schema import Index, ShardError
from tests.helpers.shards import change_index, make_shards
from tests.helpers.train_stream import run

SAMPLES, S, EPOCH, STEPS = 14, 4, 5, 13


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("shards")
    make_shards(path, samples=SAMPLES + 7, frames=(30, 45, 60), splits=("train", "train", "val"), speech=False)
    return path


@pytest.fixture(scope="module")
def config(folder):
    sizes = {"window": 40, "pad": False, "batch_size": S, "steps_per_epoch": EPOCH}
    return DataConfig(name="folder", root=str(folder), fields=["lip"], workers=0, seed=5, **sizes)


def loader(config, **changes):
    return ShardDataModule(config, **changes).train_dataloader()


def samples(batches):
    return [(b["step"], b["key"], b["start"].tolist()) for b in batches]


def by_step(rows):
    """Maps each step to its global batch, epoch and length, joined from the ranks in order."""
    steps = {}
    for row in (row for row in rows if row["kind"] == "train"):
        step = steps.setdefault(row["step"], {"samples": [], "sums": [], "length": set(), "epoch": set()})
        step["samples"] += row["samples"]
        step["sums"] += row["sums"]
        step["length"].add(row["length"])
        step["epoch"].add(row["epoch"])
    return steps


@pytest.fixture(scope="module")
def uninterrupted(config, tmp_path_factory):
    """A run on one rank with two loader processes and a checkpoint after every step."""
    path = tmp_path_factory.mktemp("uninterrupted")
    rows = run(path, replace(config, workers=2), 1, max_steps=STEPS, save_every=1, validate=True)
    return path, by_step(rows)


@pytest.mark.slow
def test_each_key_once_per_pass(uninterrupted):
    _, steps = uninterrupted
    assert list(steps) == list(range(STEPS))
    draws = [sample for step in steps.values() for sample in step["samples"]]
    assert [draw for draw, *_ in draws] == list(range(STEPS * S))
    for pass_ in range(STEPS * S // SAMPLES):
        keys = {key for _, key, *_ in draws[pass_ * SAMPLES : (pass_ + 1) * SAMPLES]}
        assert len(keys) == SAMPLES
    for step, batch in steps.items():
        assert batch["epoch"] == {step // EPOCH}
        frames = [(30, 45, 60)[int(key[-4:]) % 3] for _, key, *_ in batch["samples"]]
        assert batch["length"] == {min(40, *frames)}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 4])
def test_global_batches_do_not_depend_on_the_number_of_ranks(uninterrupted, config, tmp_path, ranks):
    assert by_step(run(tmp_path, config, ranks, max_steps=7)) == {k: uninterrupted[1][k] for k in range(7)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "ranks", "workers"),
    [(3, 1, 0), (5, 2, 0), (7, 1, 2), (7, 2, 1), (10, 4, 0)],
    ids=["mid epoch", "epoch end on two", "mid second epoch", "mid epoch on two", "epoch end on four"],
)
def test_resume_is_exact(uninterrupted, config, tmp_path, step, ranks, workers):
    path, steps = uninterrupted
    resume = str(path / f"{step}.ckpt")
    rows = run(tmp_path, replace(config, workers=workers), ranks, max_steps=STEPS, resume=resume)
    assert by_step(rows) == {k: steps[k] for k in range(step, STEPS)}


def test_a_run_on_two_ranks_resumes_on_one(uninterrupted, config, tmp_path):
    stopped = by_step(run(tmp_path / "first", config, 2, max_steps=8, save_every=8))
    resumed = by_step(run(tmp_path / "second", config, 1, max_steps=STEPS, resume=str(tmp_path / "first" / "8.ckpt")))
    assert {**stopped, **resumed} == uninterrupted[1]
    assert not set(stopped) & set(resumed)


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_evaluation_returns_each_clip_once(config, tmp_path, ranks):
    """On two and four ranks one of the seven clips is repeated, with ``valid`` False."""
    rows = run(tmp_path, _test_split(config), ranks, task="test")
    per_rank = [[row for row in rows if row["rank"] == rank] for rank in range(ranks)]
    assert {len(one) for one in per_rank} == {-(-7 // ranks)}
    kept = [sample for row in rows for sample, valid in zip(row["samples"], row["valid"], strict=True) if valid]
    assert sorted(draw for draw, *_ in kept) == list(range(7))
    assert len({key for _, key, *_ in kept}) == 7
    assert all(row["step"] * ranks + row["rank"] == row["samples"][0][0] for row in rows)
    assert all(start == 0 for _, _, start, _ in kept)


def test_validation_clips_come_in_order(uninterrupted):
    path, _ = uninterrupted
    rows = [row for row in map(json.loads, (path / "fit.0").read_text().splitlines()) if row["kind"] == "val"]
    assert [row["samples"][0][0] for row in rows] == list(range(7)) * (STEPS // EPOCH)


def _test_split(config):
    """A copy of the shards in which the validation clips are the test split."""
    other = Path(config.root) / "as-test"
    if not other.exists():
        shutil.copytree(config.root, other)
        moved = tuple(replace(s, split="test") if s.split == "val" else s for s in Index.read(other).samples)
        change_index(other, samples=moved)
    return replace(config, root=str(other))


def test_test_clips_are_complete(config):
    for batch in ShardDataModule(_test_split(config)).test_dataloader():
        assert batch["lip"].shape[1] == (30, 45, 60)[int(batch["key"][0][-4:]) % 3]
        assert batch["lip"][0, :, 0].tolist() == list(range(batch["lip"].shape[1]))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(config, workers):
    expected = samples(itertools.chain(*[loader(config)] * 3))
    train = loader(config, workers=workers)
    assert samples(itertools.chain(train, train, train)) == expected


def test_ranks_partition_the_global_batch(config):
    whole = list(loader(config))
    for ranks in (2, 4):
        parts = [list(_of_rank(config, rank, ranks)) for rank in range(ranks)]
        for step, batch in enumerate(whole):
            assert torch.equal(torch.cat([part[step]["lip"] for part in parts]), batch["lip"])


def _of_rank(config, rank, ranks):
    data = ShardDataModule(config)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
    return data.train_dataloader()


@pytest.mark.parametrize(("ranks", "sizes"), [(3, "3 or 6"), (8, "8")])
def test_a_batch_size_that_ranks_do_not_divide_is_rejected(config, ranks, sizes):
    message = f"data.batch_size=4: .* number of ranks, {ranks}; set it to {sizes}, or run on 1, 2, 4 ranks"
    with pytest.raises(ValueError, match=message):
        _of_rank(config, 0, ranks)


def test_state_counts_consumed_not_prefetched_batches(config):
    train = loader(config, workers=2)
    batches = iter(train)
    for expected in range(3):
        next(batches)
        assert train.state_dict()["step"] == expected + 1
    again = loader(config)
    again.load_state_dict(copy.deepcopy(train.state_dict()))
    assert samples([next(iter(again))]) == samples([next(batches)])
    train.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 6}, "data.seed: was 5, is 6"),
        ({"batch_size": 8}, "data.batch_size: was 4, is 8"),
        ({"window": 24}, "data.window: was 40, is 24"),
        ({"min_frames": 31}, "training clips: was 14 clips, .* is 7 clips"),
    ],
)
def test_resuming_with_another_order_names_the_changed_values(config, changes, message):
    state = loader(config).state_dict()
    with pytest.raises(ShardError, match=message + r"(.|\n)*init=RUN"):
        loader(config, **changes).load_state_dict(state)


def test_resuming_on_other_shards_is_rejected(config, tmp_path):
    make_shards(tmp_path, samples=SAMPLES, shards=3, frames=(30, 45, 60), seed=1, speech=False)
    with pytest.raises(ShardError, match="training clips: was 14 clips, .*, is 14 clips, "):
        loader(config, root=str(tmp_path)).load_state_dict(loader(config).state_dict())


def test_loading_does_not_advance_global_generators(config):
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate()
    list(loader(config, workers=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


def test_a_loader_process_raises_shard_errors(config, tmp_path):
    index = make_shards(tmp_path, samples=6, shards=1, frames=(30,), speech=False)
    os.truncate(tmp_path / index.shards[0].name, 3000)
    with pytest.raises(ShardError, match="has 3000 bytes"):
        next(iter(loader(config, root=str(tmp_path), workers=1)))


def test_x_ref_may_come_from_any_clip_of_the_speaker(tmp_path):
    make_shards(tmp_path / "shards", samples=12, frames=(30,), splits=("train", "val"))
    fields = ["expression", "portraits"]
    settings = {"root": str(tmp_path / "shards"), "fields": fields, "window": 8, "batch_size": 2, "workers": 0}
    module, other = (ShardDataModule(**settings, pad=False, reference=kind) for kind in ("clip", "speaker"))
    own, any_clip = module.train_dataloader().dataset, other.train_dataloader().dataset
    seen = set()
    for step in range(12):
        for one, two in zip(*(each.micro_batches(step)[0].windows for each in (own, any_clip)), strict=True):
            assert two._replace(reference=None) == one
            assert two.reference.entry.speaker == one.clip.entry.speaker
            seen.add((one.clip.key, two.reference.key))
        batch = any_clip[step]
        for row, window in enumerate(any_clip.micro_batches(step)[0].windows):
            reference = module.whole(window.reference, fields)["expression"][0, batch["reference_frame"][row]]
            assert torch.equal(batch["reference_expression"][row], reference)
            first = module.whole(window.clip, fields)["first_expression"][0]
            assert torch.equal(batch["first_expression"][row], first)
    assert len({clip for clip, _ in seen}) == 6
    assert any(clip != reference for clip, reference in seen)
