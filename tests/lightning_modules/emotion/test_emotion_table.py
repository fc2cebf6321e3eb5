"""The label table: learned from shards by clip means, right for people it never saw, strict about what it holds."""

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardDataModule
from encoders.protocols import Identity
from encoders.weight_files import WrongWeights
from lightning_modules.emotion.emotion_table import EmotionError, EmotionTable, learn_table
from preparation.synthetic import EMOTIONS, identity, levels_of, split_of
from tests.helpers.emotion import expression_of, synthetic_table
from tests.helpers.refusals import refuses
from tests.helpers.shards import TINY, arrays_of, make_shards


@pytest.fixture(scope="module")
def table() -> EmotionTable:
    return synthetic_table()


def test_cells_are_means_over_clips_of_clip_means(tmp_path):
    make_shards(tmp_path, samples=12, frames=(40, 50, 60, 70), splits=("train",) * 4 + ("test",))
    learned = learn_table(ShardDataModule(root=str(tmp_path), workers=0))
    # make_shards gives clip i the emotion (happy, sad, None)[i % 3] and level 1 + i % 3; every fifth is a test clip.
    training = [i for i in range(12) if i % 5 != 4]
    clips = {i: arrays_of(f"clip_{i:04d}", (40, 50, 60, 70)[i % 4], TINY)["expression.npy"] for i in training}
    assert learned.cells == (("happy", 1), ("sad", 2))
    for cell in (0, 1):
        means = [clip.mean(0, dtype=np.float64) for i, clip in clips.items() if i % 3 == cell]
        torch.testing.assert_close(learned.latents[cell], torch.from_numpy(np.mean(means, axis=0)).float())
        assert learned.clips[cell] == len(means)
    frames = np.concatenate(list(clips.values())).astype(np.float64)
    torch.testing.assert_close(learned.mean, torch.from_numpy(frames.mean(0)).float())
    torch.testing.assert_close(learned.std, torch.from_numpy(frames.std(0)).float())
    assert learned.motion == Identity("landmarks")


def test_shards_without_labels_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.helpers.shards.EMOTIONS", (None, None, None))
    make_shards(tmp_path, samples=3)
    with pytest.raises(EmotionError, match="none of the training clips says its emotion"):
        learn_table(ShardDataModule(root=str(tmp_path), workers=0))


@pytest.mark.slow
def test_people_it_never_saw_are_nearest_to_their_emotion(table):
    people = [index for index in range(12) if split_of(identity(index)) != "train"]
    cases = [(i, emotion, level) for i in people for emotion in EMOTIONS for level in levels_of(emotion)]
    means = torch.stack([expression_of(i, emotion, level, sentence=50 + i).mean(0) for i, emotion, level in cases])
    found = table.nearest(means)
    right = np.mean([cell[0] == case[1] for cell, case in zip(found, cases, strict=True)])
    assert right >= 0.95  # measured: 1.0 of 66; chance is 1/8


def test_stronger_levels_lie_farther_from_neutral(table):
    neutral = table.standardise(table.lookup("neutral"))
    for emotion in set(EMOTIONS) - {"neutral"}:
        distances = [float((table.standardise(table.lookup(emotion, level)) - neutral).norm()) for level in (1, 2, 3)]
        assert distances == sorted(distances), emotion


def test_lookup_takes_names_as_people_write_them(table):
    assert torch.equal(table.lookup(" Happy ", 2), table.lookup("happy"))
    assert torch.equal(table.lookup("neutral"), table.lookup("neutral", 1))
    table.lookup("happy").zero_()  # a copy: the table does not change
    assert table.lookup("happy").abs().sum() > 0


@pytest.mark.parametrize(
    ("label", "level", "message"),
    [
        ("hapy", None, r"emotion\.label=hapy.*did you mean happy\?.*angry \(1, 2, 3\).*neutral \(1\)"),
        ("rage", None, r"emotion\.label=rage.*did you mean angry\?"),
        ("zzz", None, r"is not an emotion's name;.*known are"),
        ("neutral", 3, r"emotion\.level=3.*neutral has 1\. Take level 1"),
        ("sad", 5, r"emotion\.level=5.*whole numbers from 1 to 3.*sad has 1, 2, 3"),
    ],
)
def test_unknown_emotions_and_levels_list_what_there_is(table, label, level, message):
    with pytest.raises(EmotionError, match=message):
        table.lookup(label, level)


def test_absent_emotion_is_told_from_an_unknown_one(table):
    keep = [i for i, (emotion, _) in enumerate(table.cells) if emotion != "fear"]
    cells, moments = tuple(table.cells[i] for i in keep), (table.mean, table.std)
    partial = EmotionTable(cells, table.latents[keep], (1,) * len(keep), *moments, table.motion)
    with pytest.raises(EmotionError, match="no training clip shows that emotion"):
        partial.lookup("fear")


def test_saved_and_loaded_unchanged(table, tmp_path):
    path = tmp_path / "runs" / "emotion_table.safetensors"
    table.save(path)
    loaded = EmotionTable.load(path, table.motion)
    assert (loaded.cells, loaded.clips, loaded.motion) == (table.cells, table.clips, table.motion)
    assert all(torch.equal(getattr(loaded, name), getattr(table, name)) for name in ("latents", "mean", "std"))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_other_files_and_other_encoders_are_refused(table, tmp_path):
    path = tmp_path / "table.safetensors"
    refuses(WrongWeights, "no such file", EmotionTable.load, path)
    table.save(path)
    refuses(WrongWeights, "landmarks.*this experiment's from.*pdfgc", EmotionTable.load, path, Identity("pdfgc"))
    path.write_bytes(path.read_bytes()[:-7])
    refuses(WrongWeights, "cannot be read as safetensors", EmotionTable.load, path)
    path.write_bytes(b"not a table at all")
    refuses(WrongWeights, r"table\.safetensors", EmotionTable.load, path)
