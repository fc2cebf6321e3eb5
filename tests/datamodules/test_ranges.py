"""Reading of remote shards by range, from a real HTTP server that counts the bytes it sends."""

import copy
import logging
import shlex

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardDataModule
from datamodules.ranges import GAP, ByteRange, RangedShards, joined
from datamodules.remote import read_index
from datamodules.schema import Dimensions, Index, ShardError
from datamodules.shards import ShardReader
from datamodules.staging import StagedShards, VerifiedShards, shard_source
from tests.helpers.file_server import serving
from tests.helpers.shards import make_shards

SMALL = Dimensions(latent_channels=4, latent_size=16, audio_layers=4, audio_width=80, lip_width=27, expression_width=25)
VAID_FIELDS = ("audio", "lip", "expression")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two shards of clips of 8 to 20 s with the sizes of preset small."""
    folder = tmp_path_factory.mktemp("shards")
    make_shards(folder, samples=6, shards=2, frames=(500, 300, 200), dims=SMALL, splits=("train", "train", "val"))
    return folder


@pytest.fixture
def server(shards):
    with serving() as server:
        server.serve(shards)
        yield server


def batches(root, count=3, workers=0):
    data = ShardDataModule(root=str(root), batch_size=4, workers=workers, fields=list(VAID_FIELDS))
    data.setup()
    return [copy.deepcopy(batch) for batch, _ in zip(data.train_dataloader(), range(count), strict=False)]


def equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name]
        for name, value in one.items()
    )


def test_the_fields_of_vaid_move_little_more_than_their_bytes(shards, server):
    data = ShardDataModule(root=server.url, batch_size=4, workers=0, fields=list(VAID_FIELDS))
    data.setup()
    loaded, expected = iter(data.train_dataloader()), batches(shards)
    assert equal(next(loaded), expected[0])  # read twice: the first time for the sizes of the loader's memory
    server.sent, used = 0, 0
    for wanted in expected[1:]:
        batch = next(loaded)
        assert equal(batch, wanted)
        used += sum(batch[name].numel() * batch[name].element_size() for name in VAID_FIELDS)
    assert used < server.sent <= 1.3 * used


def test_loader_processes_read_by_range(shards, server):
    expected = batches(shards, count=4)
    for batch, wanted in zip(batches(server.url, count=4, workers=2), expected, strict=True):
        assert equal(batch, wanted)


def test_a_whole_clip_and_the_latents_of_all_are_read(shards, server):
    fields = ["latent", "boxes", "portraits", "factors", *VAID_FIELDS]
    local, remote = (ShardDataModule(root=str(root), workers=0) for root in (shards, server.url))
    local.setup()
    remote.setup()
    assert equal(remote.whole(remote.clips["val"][1], fields), local.whole(local.clips["val"][1], fields))
    for ours, theirs in zip(remote.motions(), local.motions(), strict=True):
        assert ours[0] == theirs[0]
        np.testing.assert_array_equal(ours[1], theirs[1])
        np.testing.assert_array_equal(ours[2], theirs[2])


def test_sound_is_read_from_a_whole_copy(tmp_path, shards, server, monkeypatch):
    """It is looked at before it is decoded, as in a folder."""
    monkeypatch.setattr("datamodules.staging.private_temporary", lambda: tmp_path)
    entry = Index.read(shards).samples[0]
    reader = ShardReader(index := read_index(server.url), shard_source(server.url, index, None, 1), server.url)
    local = ShardReader(index, VerifiedShards(shards, index), str(shards))
    assert reader.read_bytes(entry, "speech.flac") == local.read_bytes(entry, "speech.flac")
    assert [path.name for path in tmp_path.rglob("*.tar")] == [entry.shard]


def test_what_is_copied_whole_says_so(shards, server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("datamodules.staging.private_temporary", lambda: tmp_path)
    index = Index.read(shards)
    pipe = f"pipe:cat {shlex.quote(str(shards))}/{{name}}"
    with caplog.at_level(logging.INFO):
        assert isinstance(shard_source(server.url, index, None, 1), RangedShards)
        assert not caplog.messages
        assert isinstance(shard_source(pipe, index, None, 1), StagedShards)
        server.without_ranges = True
        assert isinstance(shard_source(server.url, index, None, 1), StagedShards)
        assert isinstance(shard_source("s3://bucket/x", index, None, 1), StagedShards)
        assert isinstance(shard_source(server.url, index, str(tmp_path), 1), StagedShards)  # as was asked for
    whole, ignored, package = caplog.messages
    assert whole.endswith("shards are copied whole, a command writes whole files")
    assert ignored.endswith("shards are copied whole, its server ignores ranges")
    assert "s3fs" in package


def test_a_broken_connection_is_tried_again(shards, server, monkeypatch):
    monkeypatch.setattr("datamodules.ranges.WAIT", 0.01)
    index = Index.read(shards)
    reader = ShardReader(index, RangedShards(server.url, lambda: None), server.url)
    entry = index.samples[0]
    into = np.empty((500, 4, 80), np.float16)
    server.break_after[f"/{entry.shard}"] = [100, 5000]
    reader.read_rows(entry, "audio.npy", 0, into)
    expected = np.empty_like(into)
    ShardReader(index, VerifiedShards(shards, index), str(shards)).read_rows(entry, "audio.npy", 0, expected)
    np.testing.assert_array_equal(into, expected)
    server.break_after[f"/{entry.shard}"] = [100] * 9
    with pytest.raises(ShardError, match=rf"bytes \d+ to \d+ of {entry.shard} could not be read .*data\.stage_to"):
        reader.read_rows(entry, "audio.npy", 0, into)


def test_a_missing_and_a_shorter_shard_are_named(shards, server, monkeypatch):
    monkeypatch.setattr("datamodules.ranges.WAIT", 0.01)
    index = Index.read(shards)
    reader = ShardReader(index, RangedShards(server.url, lambda: None), server.url)
    first, last = index.samples[0], index.samples[5]
    server.files[f"/{last.shard}"] = server.files[f"/{last.shard}"][:1000]
    with pytest.raises(ShardError, match=f"of {last.shard} could not be read"):
        reader.read_meta(last)
    del server.files[f"/{first.shard}"]
    before = len(server.requests)
    with pytest.raises(ShardError, match=f"of {first.shard} could not be read .FileNotFoundError"):
        reader.read_meta(first)
    assert len(server.requests) == before + 1  # not tried again


def test_near_ranges_are_joined():
    parts = [ByteRange("b", 0, 5), ByteRange("a", 50, 60), ByteRange("a", 0, 10), ByteRange("a", 60 + GAP, 5000)]
    assert joined(parts) == [ByteRange("a", 0, 5000), ByteRange("b", 0, 5)]
    assert joined([ByteRange("a", 0, 10), ByteRange("a", 11 + GAP, 5000)]) == [
        ByteRange("a", 0, 10), ByteRange("a", 11 + GAP, 5000),
    ]  # fmt: skip
