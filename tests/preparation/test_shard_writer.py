"""Shards are complete or absent, and equal samples give equal bytes."""

import subprocess
import tarfile

import numpy as np
import pytest
import webdataset

from datamodules.schema import SampleMeta
from preparation.shard_writer import ShardWriter
from runtime.files import sha256_of


def meta(key: str) -> SampleMeta:
    crop, portraits = (0.0, 0.0, 64.0), (0, 10, 20, 29)
    return SampleMeta(key, "folder", "train", "anna", f"{key}.mp4", 0.0, 25.0, 30, crop, 64, portraits)


MEMBERS = {"meta.json": b"{}", "latent.npy": bytes(range(256)) * 5, "speech.flac": b"", "lip.npy": b"x" * 512}


def write(folder, name="a-00000.tar", keys=("one", "two")):
    with ShardWriter(folder, name) as writer:
        for key in keys:
            writer.add(meta(key), MEMBERS)
        return writer, writer.close()


def test_offsets_point_to_the_members(tmp_path):
    writer, entry = write(tmp_path)
    raw = (tmp_path / entry.name).read_bytes()
    with tarfile.open(tmp_path / entry.name) as tar:
        listed = {member.name: (member.offset_data, member.size) for member in tar}
    for sample in writer.samples:
        for name, (offset, size) in sample.members.items():
            assert raw[offset : offset + size] == MEMBERS[name]
            assert listed[f"{sample.key}.{name}"] == (offset, size)
    assert (len(raw), sha256_of(tmp_path / entry.name), 2) == (entry.bytes, entry.sha256, entry.samples)


def test_tar_and_webdataset_read_the_shard(tmp_path):
    write(tmp_path)
    listed = subprocess.run(["tar", "tf", tmp_path / "a-00000.tar"], capture_output=True, text=True, check=True).stdout
    assert listed.split() == [f"{key}.{name}" for key in ("one", "two") for name in MEMBERS]
    samples = list(webdataset.WebDataset(str(tmp_path / "a-00000.tar"), shardshuffle=False))
    latent = MEMBERS["latent.npy"]
    assert [(sample["__key__"], sample["latent.npy"]) for sample in samples] == [("one", latent), ("two", latent)]


def test_equal_samples_give_equal_bytes(tmp_path):
    (tmp_path / "later").mkdir()
    assert write(tmp_path)[1].sha256 == write(tmp_path / "later")[1].sha256


def test_error_leaves_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="an encoder failed"), ShardWriter(tmp_path, "a.tar") as writer:  # noqa: PT012
        writer.add(meta("one"), MEMBERS)
        raise RuntimeError("an encoder failed")
    assert list(tmp_path.iterdir()) == []


def test_shard_without_samples_is_not_written(tmp_path):
    assert write(tmp_path, keys=())[1] is None
    assert list(tmp_path.iterdir()) == []


def test_members_may_have_any_bytes(tmp_path):
    data = np.random.default_rng(0).bytes(100_000)
    with ShardWriter(tmp_path, "b.tar") as writer:
        writer.add(meta("k"), {"latent.npy": data})
        writer.close()
    offset, size = writer.samples[0].members["latent.npy"]
    assert (tmp_path / "b.tar").read_bytes()[offset : offset + size] == data
