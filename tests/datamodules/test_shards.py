"""Reading by offset against tarfile and numpy, and errors for damaged or malicious files."""

import dataclasses
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from datamodules.index_checks import check_index
from datamodules.remote import read_index
from datamodules.schema import Index, ShardError
from datamodules.shards import ShardReader, parse_npy_header
from datamodules.staging import LocalShards
from tests.helpers.files import overwrite, without_privileges
from tests.helpers.shards import arrays_of, make_shards, npy


@pytest.fixture
def shards(tmp_path):
    return make_shards(tmp_path, samples=6, shards=2)


def reader_of(folder):
    return ShardReader(read_index(str(folder)), LocalShards(folder), str(folder))


def replaced(index, which, **changes):
    samples = [dataclasses.replace(s, **changes) if s.key == which else s for s in index.samples]
    return dataclasses.replace(index, samples=tuple(samples))


def test_every_member_equals_tarfile(tmp_path, shards):
    reader = reader_of(tmp_path)
    for entry in shards.samples:
        with tarfile.open(tmp_path / entry.shard) as tar:
            for name in entry.members:
                content = tar.extractfile(f"{entry.key}.{name}").read()
                assert reader.read_bytes(entry, name) == content
                if name.endswith(".npy"):
                    whole, header = np.load(io.BytesIO(content)), reader.header(entry, name)
                    assert (header.dtype, header.shape) == (whole.dtype, whole.shape)
                    into = np.empty((2, *whole.shape[1:]), whole.dtype)
                    for start in (0, 1, len(whole) - 2):
                        reader.read_rows(entry, name, start, into)
                        np.testing.assert_array_equal(into, whole[start : start + 2])


def test_only_the_bytes_of_the_rows_are_read(tmp_path, shards, monkeypatch):
    reader, counted = reader_of(tmp_path), []
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *a: counted.append(out := preadv(*a)) or out)
    into = np.empty((3, 4, 4, 4), np.float16)
    reader.read_rows(shards.samples[0], "latent.npy", 5, into)
    assert sum(counted) == 512 + 256 + into.nbytes


def test_rows_outside_the_clip_are_rejected(tmp_path, shards):
    entry = shards.samples[0]
    with pytest.raises(ValueError, match="cannot read float32"):
        reader_of(tmp_path).read_rows(entry, "lip.npy", entry.frames - 1, np.empty((2, 5), np.float32))


def test_open_files_are_limited_and_not_pickled(tmp_path):
    index = make_shards(tmp_path, samples=24, shards=24, frames=(30,))
    reader = reader_of(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for entry in index.samples:
            reader.read_meta(entry)
    assert len(os.listdir("/proc/self/fd")) - before == ShardReader.OPEN_FILES
    again = pickle.loads(pickle.dumps(reader))
    assert again.read_meta(index.samples[3])["key"] == index.samples[3].key
    reader.close()
    again.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_truncated_shard_is_named_with_the_next_step(tmp_path, shards):
    name = shards.shards[1].name
    os.truncate(tmp_path / name, shards.shards[1].bytes - 5000)
    with pytest.raises(ShardError, match=rf"{name}: has \d+ bytes, expected \d+ by the index.*task=check"):
        reader_of(tmp_path).read_meta(shards.samples[-1])


def test_a_shard_truncated_while_open_is_named(tmp_path, shards):
    reader = reader_of(tmp_path)
    entry = shards.samples[-1]
    reader.read_meta(entry)
    os.truncate(tmp_path / entry.shard, entry.members["latent.npy"][0] + 400)
    with pytest.raises(ShardError, match="ends at byte"):
        reader.read_rows(entry, "latent.npy", 0, np.empty((9, 4, 4, 4), np.float16))


def test_a_missing_shard_is_named(tmp_path, shards):
    (tmp_path / shards.shards[0].name).unlink()
    with pytest.raises(ShardError, match=r"folder-00000.tar: listed in the index but cannot be read \(No such file"):
        reader_of(tmp_path).read_meta(shards.samples[0])


def test_an_index_that_does_not_match_its_shard_is_rejected(tmp_path, shards):
    first, second = shards.samples[:2]
    wrong = replaced(shards, first.key, members=second.members)
    with pytest.raises(ShardError, match=r"contains 'clip_0001.lip.npy' where its index expects 'clip_0000.lip.npy'"):
        reader_of(tmp_path).header(wrong.samples[0], "lip.npy")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((40, 6), np.float32), r"found float32 \(40, 6\)"),
        (np.zeros((40, 5), np.float16), "found float16"),
        (np.zeros((5, 40), np.float32).T, "Fortran order"),
        (np.array([None] * 40), "pickled objects"),
    ],
)
def test_arrays_of_another_type_or_shape_are_rejected(tmp_path, array, message):
    (entry,) = make_shards(tmp_path, samples=1, shards=1).samples
    out = io.BytesIO()
    np.save(out, array)
    offset, size = entry.members["lip.npy"]
    overwrite(tmp_path / entry.shard, offset, out.getvalue()[:size].ljust(size, b"\0"))
    with pytest.raises(ShardError, match=message):
        reader_of(tmp_path).header(entry, "lip.npy")


def test_headers_of_both_npy_versions_are_parsed():
    array = np.zeros((3, 2), np.float16)
    two = io.BytesIO()
    np.lib.format.write_array(two, array, version=(2, 0))
    for data in (npy(array), two.getvalue()):
        header = parse_npy_header(data[:256])
        assert (header.shape, header.dtype, header.start + array.nbytes) == ((3, 2), np.dtype(np.float16), len(data))
    with pytest.raises(ValueError):
        parse_npy_header(b"PK\x03\x04 not an array")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "../evil"}, "sample key '../evil'"),
        ({"members": {"../../etc/passwd": (512, 10)}}, "has no meta.json"),
        ({"shard": "../other.tar"}, "in shard '../other.tar', which the index does not list"),
        ({"key": "clip_0001"}, "clip_0001 occurs twice"),
    ],
)
def test_unsafe_or_inconsistent_indices_are_rejected(shards, changes, message):
    with pytest.raises(ShardError, match=message):
        check_index(replaced(shards, "clip_0000", **changes), "here")


def test_unsafe_member_and_shard_names_are_rejected(shards):
    members = {**shards.samples[0].members, "../../etc/passwd": (512, 10)}
    with pytest.raises(ShardError, match="unknown member '../../etc/passwd'"):
        check_index(replaced(shards, "clip_0000", members=members), "here")
    beyond = {**shards.samples[0].members, "lip.npy": (512, 10**9)}
    with pytest.raises(ShardError, match="clip_0000.lip.npy is at bytes 512 to"):
        check_index(replaced(shards, "clip_0000", members=beyond), "here")
    for name in ("../x.tar", "/etc/passwd", "a/b.tar", ".."):
        wrong = dataclasses.replace(shards, shards=(dataclasses.replace(shards.shards[0], name=name),))
        with pytest.raises(ShardError, match="is not a plain file name"):
            check_index(wrong, "here")


def test_member_names_in_the_tar_must_match_the_index(tmp_path):
    """They are never used as paths."""
    (entry,) = make_shards(tmp_path, samples=1, shards=1).samples
    overwrite(tmp_path / entry.shard, entry.members["lip.npy"][0] - 512, b"../../evil".ljust(100, b"\0"))
    with pytest.raises(ShardError, match=r"contains '../../evil' where"):
        reader_of(tmp_path).header(entry, "lip.npy")


def test_missing_damaged_and_newer_indices_are_rejected(tmp_path, shards):
    path = tmp_path / "index.json"
    text = path.read_text()
    path.write_text(text.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(ShardError, match="newer version"):
        read_index(str(tmp_path))
    for damaged in (text[:100], "[" * 100_000):
        path.write_text(damaged)
        with pytest.raises(ShardError, match="not valid JSON"):
            read_index(str(tmp_path))
    path.unlink()
    with pytest.raises(ShardError, match="no such file"):
        read_index(str(tmp_path))
    with pytest.raises(ShardError, match=r"typo: no such folder of shards; .*prepare\.py"):
        read_index(str(tmp_path / "typo"))


def test_an_unreadable_index_is_named(tmp_path, shards):
    (tmp_path / "index.json").chmod(0)
    refused = pytest.raises(ShardError, match=r"index\.json: cannot be read \(Permission denied\)")
    with without_privileges(), refused:
        read_index(str(tmp_path))


def test_make_shards_writes_valid_shards(tmp_path, shards):
    assert Index.read(tmp_path) == shards
    check_index(shards, "here")
    into = np.empty((60, 5), np.float32)
    reader_of(tmp_path).read_rows(shards.samples[2], "lip.npy", 0, into)
    np.testing.assert_array_equal(into, arrays_of("clip_0002", 60, shards.dimensions)["lip.npy"])
