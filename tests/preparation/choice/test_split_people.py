"""One person is on one side, under every name, over clips and over shards."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from configs.preparation import DatasetConfig
from datamodules import MixtureDataModule, ShardDataModule
from datamodules.identities import IDENTITIES_NAME, Identities
from datamodules.schema import Index, ShardError
from datamodules.splits import person_hash_split
from preparation.choice.split_people import on_one_side
from preparation.clip_source import ClipSource
from preparation.identities import fingerprint, write_identities
from preparation.plan import Plan, PlannedShard
from preparation.scan.columns import SCHEMA
from tests.helpers.file_server import serving
from tests.helpers.refusals import refuses
from tests.helpers.shards import make_shards


def scan(*rows: tuple[str, str, str | None, str | None]) -> pa.Table:
    """Speaker, split, hash and person of each clip."""
    names = ("speaker", "split", "sha256", "person")
    found = [dict(zip(names, row, strict=True)) | {"clip": f"c{n}", "path": f"c{n}"} for n, row in enumerate(rows)]
    return pa.Table.from_pylist(found, SCHEMA)


def sides(table: pa.Table, **settings: object) -> tuple[list[str], list[str]]:
    found, notes = on_one_side(table, DatasetConfig(**{"name": "folder", "split": "person", **settings}))
    return found["split"].to_pylist(), notes


def test_people_and_videos_under_several_names_are_on_one_side():
    names = [f"name{number}" for number in range(40)]
    train, test = (next(name for name in names if person_hash_split(name) == side) for side in ("train", "test"))
    first = person_hash_split(min(train, test))
    table = scan((train, "train", "a", "p"), (test, "test", "b", "p"), ("other", "val", "c", None))
    assert sides(table) == ([first, first, "val"], [f"{min(train, test)}, {max(train, test)} are one person or have a "
                                                    f"video in common: all in {first}"])  # fmt: skip
    same = scan((train, "train", "a", None), (test, "test", "a", None))
    assert sides(same)[0] == [first, first]
    apart = scan((train, "train", "a", "p"), (test, "test", "b", "q"))
    assert sides(apart) == (["train", "test"], [])


def test_published_splits_and_lists_stay_and_are_reported():
    table = scan(("a", "train", "x", None), ("b", "test", "x", None))
    for settings in ({"name": "hdtf", "split": "peer"}, {"name": "manifest", "split": "person"}):
        found, notes = sides(table, **settings)
        assert found == ["train", "test"]
        assert notes == [f"split {settings['split']} has a, b, one person or video, in test, train"]


def with_people(folder: Path, speakers: dict[str, list[float]], content: str = "") -> Path:
    keys = [sample.key for sample in Index.read(folder).samples]
    np.savez(
        folder / IDENTITIES_NAME,
        keys=np.array(keys), content=np.array([content or f"{folder}{key}" for key in keys]),
        speakers=np.array(list(speakers), str), vectors=np.array(list(speakers.values()), np.float16).reshape(-1, 2),
    )  # fmt: skip
    return folder


@pytest.fixture
def two(tmp_path) -> tuple[Path, Path]:
    """Shards of one dataset in train, and of another in test."""
    made = []
    for name, split in (("hdtf", "train"), ("mead", "test")):
        folder = tmp_path / name
        make_shards(folder, samples=4, shards=1, dataset=name, splits=(split,))
        made.append(folder)
    return made[0], made[1]


def mixture(roots: tuple[Path, Path]) -> MixtureDataModule:
    module = MixtureDataModule(roots={root.name: str(root) for root in roots}, fields=["lip"], window=8, batch_size=2)
    module.setup()
    return module


def test_one_face_in_train_of_one_dataset_and_test_of_another_is_refused(two):
    speakers = [{sample.speaker for sample in Index.read(root).samples} for root in two]
    (ours, *_), (theirs, *_) = (sorted(names) for names in speakers)
    mixture(two)  # nothing is known about faces
    with_people(two[0], {ours: [1, 0]})
    with_people(two[1], {theirs: [0, 1]})
    mixture(two)
    with_people(two[1], {theirs: [0.9, 0.1]})
    with pytest.raises(ShardError) as caught:
        mixture(two)
    for part in (f"{two[0]}: {ours} (train)", f"{two[1]}: {theirs} (test)", "dataset.known="):
        assert part in str(caught.value)
    ShardDataModule(root=str(two[0]), fields=["lip"], window=8).setup()


def test_one_video_in_train_of_one_dataset_and_test_of_another_is_refused(two):
    for root in two:
        with_people(root, {}, content="the same")
    refuses(ShardError, "1 videos or people", mixture, two)


def test_known_people_keep_their_side(two, tmp_path):
    (speaker, *_) = sorted({sample.speaker for sample in Index.read(two[1]).samples})
    video = tmp_path / "talk.mp4"
    video.write_bytes(b"a video")
    with_people(two[1], {speaker: [1, 0]}, content=fingerprint(video))
    rows = [
        {"clip": "c0", "path": str(video), "speaker": "a", "split": "train", "sha256": "x"},
        {"clip": "c1", "path": "gone", "speaker": "b", "split": "train", "sha256": "y", "embedding": [0.8, 0.6]},
        {"clip": "c2", "path": "gone", "speaker": "c", "split": "train", "sha256": "z", "embedding": [0.0, 1.0]},
    ]
    found = sides(pa.Table.from_pylist(rows, SCHEMA), known=[str(two[1])])[0]
    assert found == ["test", "test", "train"]


def test_a_damaged_file_is_refused_and_a_missing_one_is_empty(two):
    assert Identities.read(str(two[0])).content == {}
    for content in (b"", b"PK\x03\x04no zip"):
        (two[0] / IDENTITIES_NAME).write_bytes(content)
        refuses(ShardError, "identities.npz: damaged", Identities.read, str(two[0]))
    with_people(two[0], {"a": [np.nan, 0]})
    refuses(ShardError, "identities.npz: damaged .its vectors have values", Identities.read, str(two[0]))


@pytest.mark.parametrize("kind", ["http", "pipe"])
def test_people_of_remote_roots_are_known_by_content_and_face(two, kind, caplog):
    speakers = [{sample.speaker for sample in Index.read(root).samples} for root in two]
    (ours, *_), (theirs, *_) = (sorted(names) for names in speakers)
    with_people(two[0], {ours: [1, 0]})
    with serving() as server:
        root = server.url if kind == "http" else f"pipe:cat {shlex.quote(str(two[1]))}/{{name}}"
        server.serve(two[1])
        roots = {"hdtf": str(two[0]), "mead": root}
        MixtureDataModule(roots=roots, fields=["lip"], window=8, batch_size=2).setup()
        assert "has no identities.npz, so its people are known by name alone" in caplog.text
        assert caplog.text.count("identities.npz, so") == 1
        with_people(two[1], {theirs: [0.9, 0.1]})
        server.serve(two[1])
        assert Identities.read(root).speakers == (theirs,)
        caplog.clear()
        with pytest.raises(ShardError, match=r"1 videos or people are on several sides"):
            MixtureDataModule(roots=roots, fields=["lip"], window=8, batch_size=2).setup()
        assert "identities" not in caplog.text


def test_files_of_remote_roots_are_limited(two, monkeypatch):
    with_people(two[0], {"a": [0, 1]})
    with serving() as server:
        server.serve(two[0])
        content = server.files[f"/{IDENTITIES_NAME}"]
        server.files[f"/{IDENTITIES_NAME}"] = content[: len(content) // 2]
        refuses(ShardError, f"http.*/{IDENTITIES_NAME}: damaged", Identities.read, server.url)
        server.files[f"/{IDENTITIES_NAME}"] = content
        monkeypatch.setattr("datamodules.identities.MAX_BYTES", 100)
        refuses(ShardError, "sends more than the expected 100 bytes", Identities.read, server.url)
    np.savez_compressed(two[0] / IDENTITIES_NAME, keys=np.zeros(10_000))
    monkeypatch.setattr("datamodules.identities.MAX_BYTES", 5_000)
    refuses(ShardError, "its arrays have .* bytes, expected at most 5000", Identities.read, str(two[0]))


@pytest.mark.parametrize(("names", "known"), [(("a", "b"), False), (("a", "a"), True)])
def test_a_video_of_several_people_does_not_join_them(tmp_path, names, known):
    """As an interview, whose clips are on different sides; a video of one person is still known by its content."""
    make_shards(tmp_path, samples=2, shards=1, dataset="manifest", splits=("train", "test"))
    index = Index.read(tmp_path)
    video = tmp_path / "interview.mp4"
    video.write_bytes(bytes(range(256)) * 64)
    samples = [replace(sample, speaker=name) for sample, name in zip(index.samples, names, strict=True)]
    clips = tuple(ClipSource(sample.key, video, "interview", sample.speaker, sample.split) for sample in samples)
    plan = Plan({}, tuple(clip.key for clip in clips), (PlannedShard("x.tar", clips),), {})
    write_identities(tmp_path, plan, replace(index, samples=samples))
    assert bool(Identities.read(str(tmp_path)).content) is known
