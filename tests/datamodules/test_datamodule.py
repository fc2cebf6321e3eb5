"""The data module: splits by speaker, and errors for unsuitable shards and configurations."""

import logging
from collections import Counter
from dataclasses import replace

import pytest

from configs.data import DataConfig
from configs.rules import check_data
from datamodules.datamodule import ShardDataModule
from datamodules.schema import Index, ShardError
from datamodules.splits import split_of
from encoders.protocols import Identity
from tests.helpers.shards import ENCODERS, change_index, make_shards


@pytest.fixture
def folder(tmp_path):
    make_shards(tmp_path, samples=12, shards=2, splits=("train", "val", "test"), speech=False)
    return tmp_path


def data(folder, **changes):
    settings = {"root": str(folder), "fields": ["lip"], "workers": 0, "batch_size": 2, "steps_per_epoch": 2}
    return ShardDataModule(**{**settings, **changes})


def change_samples(folder, changes):
    """Updates the fields of every sample in the index with ``changes(sample)``."""
    change_index(folder, samples=tuple(replace(s, **changes(s)) for s in Index.read(folder).samples))


def test_stored_splits_are_used(folder):
    module = data(folder)
    module.setup("fit")
    assert {split: len(clips) for split, clips in module.clips.items()} == {"train": 4, "val": 4, "test": 4}
    keys = {key for batch in module.val_dataloader() for key in batch["key"]}
    assert keys == {f"clip_{i:04d}" for i in (1, 4, 7, 10)}
    assert module.dimensions == module.index.dimensions
    assert module.latent_statistics == module.index.latent
    assert len(module.train_dataloader()) == 2


@pytest.mark.parametrize("name", ["hdtf", "mead", "synthetic", "folder"])
def test_any_dataset_can_be_read_by_name(tmp_path, name):
    make_shards(tmp_path, samples=2, shards=1, dataset=name, speech=False)
    assert len(next(iter(data(tmp_path, name=name).train_dataloader()))["key"]) == 2


def test_another_dataset_is_rejected(folder):
    with pytest.raises(
        ShardError, match="contains dataset 'folder', data.name=hdtf expects 'hdtf'; set data.name=folder, or"
    ):
        data(folder, name="hdtf").setup()


def test_shards_of_other_encoders_are_rejected(folder):
    data(folder, encoders=ENCODERS).setup()
    wanted = {**ENCODERS, "codec": Identity("svd", weights={"vae.safetensors": "ab"})}
    with pytest.raises(
        ShardError, match=r"codec: shards have Identity\(name='patch'.*experiment has Identity\(name='svd'"
    ):
        data(folder, encoders=wanted).setup()


def test_a_named_split_overrides_the_stored_one(folder):
    change_samples(folder, lambda s: {"speaker": f"person {s.key[-2:]}"})
    module = data(folder, split="person")
    module.setup()
    for split, clips in module.clips.items():
        for clip in clips:
            assert split_of("folder", "person", f"person {clip.key[-2:]}", clip.key) == split


def test_a_split_with_shared_speakers_is_rejected(folder):
    change_samples(folder, lambda s: {"speaker": "Ann" if s.split != "train" else s.speaker})
    with pytest.raises(ShardError, match=r"split 'stored' shares 1 speakers between train, val and test \(Ann\)"):
        data(folder).setup()


def test_published_splits_with_shared_speakers_only_warn(tmp_path, caplog):
    make_shards(tmp_path, samples=6, shards=1, dataset="hdtf", splits=("train", "test"), speech=False)
    change_samples(tmp_path, lambda s: {"speaker": "Ann"})
    change_index(tmp_path, split="peer")
    with caplog.at_level(logging.WARNING):
        data(tmp_path, name="hdtf").setup()
    assert "split peer shares 1 speakers (Ann), as published" in caplog.text


def test_short_clips_are_skipped_and_counted(folder, caplog):
    module = data(folder, min_frames=45)
    with caplog.at_level(logging.INFO):
        module.setup()
    assert "12 clips; skipped 4 shorter than data.min_frames=45" in caplog.text
    assert sum(len(clips) for clips in module.clips.values()) == 8


def test_an_empty_split_reports_the_number_of_clips_found(tmp_path):
    make_shards(tmp_path, samples=3, shards=1, speech=False)
    with pytest.raises(ShardError, match=r"no val clips of at least 24 frames .*\(found: 3 train, 0 val, 0 test\)"):
        data(tmp_path).val_dataloader()


def test_unknown_emotions_are_reported(folder, caplog):
    change_samples(folder, lambda s: {"emotion": "smug"})
    with caplog.at_level(logging.WARNING):
        batch = next(iter(data(folder).train_dataloader()))
    assert "{'smug': 12}" in caplog.text
    assert batch["emotion_index"].tolist() == [-1, -1]


def test_a_missing_root_is_named(tmp_path):
    with pytest.raises(ValueError, match="data.root is missing"):
        ShardDataModule().setup()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "celeb"}, r"data\.name=celeb: there is no such dataset; did you mean voxceleb2\? There are hdtf"),
        ({"fields": ["audio", "pixels"]}, "data.fields=pixels: expected one of audio"),
        ({"window": 0}, "data.window=0: expected a number above 0"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"workers": -1}, "data.workers=-1: expected 0 or more"),
        ({"stage_gib": 0.0}, "data.stage_gib=0.0"),
        ({"roots": {"a": "b"}}, "data.roots and data.weights belong to data.name=mixture"),
        ({"name": "mixture"}, "expects two or more data.roots"),
        ({"name": "mixture", "roots": {"a": "x", "b": "y"}, "weights": {"a": 1}}, r"data.weights names \['a'\]"),
        ({"name": "mixture", "roots": {"a": "x", "b": "y"}, "weights": {"a": 1, "b": 0}}, "weights.b=0: expected 1"),
    ],
)
def test_invalid_configurations_name_their_key(changes, message):
    with pytest.raises(ValueError, match=message):
        check_data(DataConfig(**{"name": "folder", "root": "x" if "roots" not in changes else None, **changes}))


@pytest.mark.parametrize("changes", [{}, {"pad": False}, {"pad": False, "micro_batch": 1}])
def test_a_pass_by_frames_weighs_clips_by_their_length(tmp_path, changes):
    """Equal on any number of ranks and after resuming, since a draw depends on its number alone."""
    make_shards(tmp_path, samples=8, shards=2, frames=(24, 240, 48, 480))
    options = {"root": str(tmp_path), "batch_size": 64, "window": 48, "workers": 0, "pass_by": "frames"}

    def windows(rank, ranks, steps):
        data = ShardDataModule(**options, **changes)
        data._rank = lambda: (rank, ranks)
        data.setup()
        dataset = data.train_dataloader().dataset
        return [[window for part in dataset.of_rank(step, rank) for window in part.windows] for step in steps]

    whole = windows(0, 1, range(3))
    drawn = Counter(window.clip.key for batch in whole for window in batch)
    frames = {f"clip_{number:04d}": (24, 240, 48, 480)[number % 4] for number in range(8)}
    once = {key: max(1, round(count / 48)) for key, count in frames.items()}
    assert sum(once.values()) == 34
    assert all(abs(drawn[key] / (3 * 64 / 34) - count) < 1.5 for key, count in once.items())
    assert len({(w.clip.key, w.start) for batch in whole for w in batch if w.clip.entry.frames == 480}) > 30
    for ranks in (2, 8, 64):
        parts = [windows(rank, ranks, range(3)) for rank in range(ranks)]
        for step in range(3):
            together = [window for part in parts for window in part[step]]
            assert sorted(together, key=lambda w: w.draw) == sorted(whole[step], key=lambda w: w.draw)
    assert windows(0, 1, range(2, 3)) == whole[2:]
    before = ShardDataModule(**{**options, "pass_by": "clips"}, **changes)
    before.setup()
    state = before.train_dataloader().state_dict()
    assert state["fingerprint"].pop("data.pass_by") is None  # as a checkpoint of before
    before.train_dataloader().load_state_dict(state)
    after = ShardDataModule(**options, **changes)
    after.setup()
    with pytest.raises(ShardError, match="data.pass_by: was null, is frames"):
        after.train_dataloader().load_state_dict(state)


def test_staged_shards_give_the_same_batches(folder, tmp_path_factory):
    stage = tmp_path_factory.mktemp("stage")
    in_place = [batch["lip"].sum().item() for batch in data(folder).train_dataloader()]
    piped = data(f"pipe:cat {folder}/{{name}}", stage_to=str(stage), workers=2)
    assert [batch["lip"].sum().item() for batch in piped.train_dataloader()] == in_place
    assert list(stage.glob("*/*/*.tar"))
