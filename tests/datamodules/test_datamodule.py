"""The datamodules: the right shards, splits by person, and readable refusals."""

import logging
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
    """Puts ``changes(sample)`` into the index's samples."""
    change_index(folder, samples=tuple(replace(s, **changes(s)) for s in Index.read(folder).samples))


def test_stored_splits(folder):
    module = data(folder)
    module.setup("fit")
    assert {split: len(clips) for split, clips in module.clips.items()} == {"train": 4, "val": 4, "test": 4}
    keys = {key for batch in module.val_dataloader() for key in batch["key"]}
    assert keys == {f"clip_{i:04d}" for i in (1, 4, 7, 10)}
    assert module.dimensions == module.index.dimensions
    assert module.latent_statistics == module.index.latent
    assert len(module.train_dataloader()) == 2


@pytest.mark.parametrize("name", ["hdtf", "mead", "synthetic", "folder"])
def test_a_datamodule_reads_the_dataset_it_names(tmp_path, name):
    make_shards(tmp_path, samples=2, shards=1, dataset=name, speech=False)
    assert len(next(iter(data(tmp_path, name=name).train_dataloader()))["key"]) == 2


def test_another_dataset_is_refused(folder):
    with pytest.raises(ShardError, match="holds dataset 'folder', data.name=hdtf expects 'hdtf'; set data=folder, or"):
        data(folder, name="hdtf").setup()


def test_shards_of_another_preset_are_refused(folder):
    data(folder, encoders=ENCODERS).setup()
    wanted = {**ENCODERS, "codec": Identity("svd", weights={"vae.safetensors": "ab"})}
    with pytest.raises(ShardError, match=r"codec: shards have Identity\(name='patch'.*wants Identity\(name='svd'"):
        data(folder, encoders=wanted).setup()


def test_a_named_split_goes_by_person(folder):
    """The committed rule decides, whatever the shards say."""
    change_samples(folder, lambda s: {"speaker": f"person {s.key[-2:]}"})
    module = data(folder, split="person")
    module.setup()
    for split, clips in module.clips.items():
        for clip in clips:
            assert split_of("folder", "person", f"person {clip.key[-2:]}", clip.key) == split


def test_a_person_on_two_sides_is_refused(folder):
    change_samples(folder, lambda s: {"speaker": "Ann" if s.split != "train" else s.speaker})
    with pytest.raises(ShardError, match=r"split 'stored' has 1 people on two sides \(Ann\)"):
        data(folder).setup()


def test_published_splits_by_clip_only_warn(tmp_path, caplog):
    make_shards(tmp_path, samples=6, shards=1, dataset="hdtf", splits=("train", "test"), speech=False)
    change_samples(tmp_path, lambda s: {"speaker": "Ann"})
    change_index(tmp_path, split="peer")
    with caplog.at_level(logging.WARNING):
        data(tmp_path, name="hdtf").setup()
    assert "split peer has 1 people on two sides (Ann), as published" in caplog.text


def test_short_clips_are_left_out_and_counted(folder, caplog):
    module = data(folder, min_frames=45)
    with caplog.at_level(logging.INFO):
        module.setup()
    assert "12 clips, 4 shorter than data.min_frames=45 left out" in caplog.text
    assert sum(len(clips) for clips in module.clips.values()) == 8


def test_an_empty_split_says_what_there_is(tmp_path):
    make_shards(tmp_path, samples=3, shards=1, speech=False)
    with pytest.raises(ShardError, match=r"no val clips of at least 24 frames .*\(found: 3 train, 0 val, 0 test\)"):
        data(tmp_path).val_dataloader()


def test_unknown_emotions_are_reported(folder, caplog):
    change_samples(folder, lambda s: {"emotion": "smug"})
    with caplog.at_level(logging.WARNING):
        batch = next(iter(data(folder).train_dataloader()))
    assert "{'smug': 12}" in caplog.text
    assert batch["emotion_index"].tolist() == [-1, -1]


def test_no_root(tmp_path):
    with pytest.raises(ValueError, match="data.root is missing"):
        ShardDataModule().setup()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "celeb"}, "data.name=celeb: there is no such dataset; there are hdtf"),
        ({"fields": ["audio", "pixels"]}, "data.fields=pixels: expected one of audio"),
        ({"window": 0}, "data.window=0: expected a number above 0"),
        ({"batch_size": 0}, "data.batch_size=0"),
        ({"workers": -1}, "data.workers=-1: expected 0 or more"),
        ({"stage_gib": 0.0}, "data.stage_gib=0.0"),
        ({"roots": {"a": "b"}}, "data.roots and data.weights belong to data.name=mixture"),
        ({"name": "mixture"}, "takes two or more data.roots"),
        ({"name": "mixture", "roots": {"a": "x", "b": "y"}, "weights": {"a": 1}}, r"data.weights names \['a'\]"),
        ({"name": "mixture", "roots": {"a": "x", "b": "y"}, "weights": {"a": 1, "b": 0}}, "weights.b=0: expected 1"),
    ],
)
def test_impossible_configurations_name_their_key(changes, message):
    with pytest.raises(ValueError, match=message):
        check_data(DataConfig(**{"name": "folder", "root": "x" if "roots" not in changes else None, **changes}))


def test_staged_batches_equal_those_in_place(folder, tmp_path_factory):
    stage = tmp_path_factory.mktemp("stage")
    there = [batch["lip"].sum().item() for batch in data(folder).train_dataloader()]
    piped = data(f"pipe:cat {folder}/{{name}}", stage_to=str(stage), workers=2)
    assert [batch["lip"].sum().item() for batch in piped.train_dataloader()] == there
    assert list(stage.glob("*/*/*.tar"))
