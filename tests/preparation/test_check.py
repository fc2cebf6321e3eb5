"""``check`` finds every kind of damage to finished shards."""

import io
import json
import tarfile
from dataclasses import asdict, replace

import numpy as np
import pytest

from datamodules.schema import Index, ShardError
from preparation.check import check
from runtime.files import sha256_of
from tests.helpers.files import overwrite
from tests.helpers.shards import change_index, make_shards, npy


@pytest.fixture
def folder(tmp_path):
    make_shards(tmp_path, samples=4, shards=2, frames=(30,))
    return tmp_path


def rewrite(folder, change):
    """Rewrites the first shard with ``change(name, bytes) -> (name, bytes)``; the index gets the new size and hash."""
    index = Index.read(folder)
    path = folder / index.shards[0].name
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for name, data in (change(*member) for member in members):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with tarfile.open(path) as tar:
        offsets = {member.name: (member.offset_data, member.size) for member in tar}
    entry = replace(index.shards[0], bytes=path.stat().st_size, sha256=sha256_of(path))
    samples = tuple(
        replace(s, members={m: offsets.get(f"{s.key}.{m}", place) for m, place in s.members.items()})
        for s in index.samples
    )
    change_index(folder, shards=(entry, *index.shards[1:]), samples=samples)


def rewrite_member(folder, member, change):
    """Rewrites one member of each sample with ``change(bytes) -> bytes``."""
    rewrite(folder, lambda name, data: (name, change(data) if name.endswith(member) else data))


def test_good_shards_have_no_problems(folder):
    assert check(folder) == []


def test_truncated_shard(folder):
    path = folder / Index.read(folder).shards[0].name
    path.write_bytes(path.read_bytes()[:-5000])
    assert any("cut short" in problem and path.name in problem for problem in check(folder))


def test_flipped_byte(folder):
    path = folder / Index.read(folder).shards[0].name
    middle = path.stat().st_size // 2
    overwrite(path, middle, bytes([path.read_bytes()[middle] ^ 1]))
    assert any("sha256 differs" in problem for problem in check(folder))


def test_missing_and_extra_shard(folder):
    path = folder / Index.read(folder).shards[0].name
    path.rename(folder / "other-00000.tar")
    problems = "\n".join(check(folder))
    assert f"{path.name}: missing" in problems
    assert "other-00000.tar: not in index.json" in problems


@pytest.mark.parametrize(
    ("member", "change", "expected"),
    [
        ("latent.npy", lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.float16("nan"), x), "NaN"),
        ("audio.npy", lambda x: x[:-1], "audio.npy is float16(29,"),
        ("lip.npy", lambda x: x.astype(np.float64), "lip.npy is float64"),
        ("expression.npy", lambda x: x[:, :-1], "expression.npy is"),
        ("boxes.npy", lambda x: x[..., [2, 1, 0, 3]], "an empty box"),
        ("boxes.npy", lambda x: x + np.float32(1000), "a box outside the frame"),
        ("portraits.npy", lambda x: x[:3], "portraits.npy is uint8(3,"),
    ],
)
def test_wrong_arrays(folder, member, change, expected):
    rewrite_member(folder, member, lambda data: npy(change(np.load(io.BytesIO(data)))))
    assert any(expected in problem for problem in check(folder)), check(folder)


def test_pickled_arrays_are_not_loaded(folder):
    pickled = io.BytesIO()
    np.save(pickled, np.array([{"a": print}], dtype=object), allow_pickle=True)
    rewrite_member(folder, "lip.npy", lambda data: pickled.getvalue())
    assert any("cannot be decoded" in problem and "pickle" in problem for problem in check(folder))


def test_member_names_with_parent_folders(folder):
    rewrite(folder, lambda name, data: (f"../{name}" if name.endswith("lip.npy") else name, data))
    assert any("../" in problem and "not a plain file name" in problem for problem in check(folder))


def test_missing_member(folder):
    rewrite(folder, lambda name, data: (name.replace("speech.flac", "noise.flac"), data))
    problems = "\n".join(check(folder))
    assert "unknown member" in problems
    assert "lacks speech.flac" in problems


def test_meta_that_contradicts_the_index(folder):
    other = {"speaker": "someone else"}
    rewrite_member(folder, "meta.json", lambda data: json.dumps(json.loads(data) | other).encode())
    assert any("speaker someone else" in problem for problem in check(folder))


def test_duplicate_key_and_speaker_in_two_splits(folder):
    index = Index.read(folder)
    first, second = index.samples[:2]
    change_index(folder, samples=(first, replace(second, key=first.key), *index.samples[2:]))
    assert any(f"key {first.key} occurs twice" in problem for problem in check(folder))

    sides = (replace(first, speaker="anna", split="train"), replace(second, speaker="anna", split="test"))
    change_index(folder, samples=sides + index.samples[2:])
    assert any("speaker anna is in several splits: test, train" in problem for problem in check(folder))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda raw: {**raw, "schema": 99}, "newer version"),
        (lambda raw: {key: raw[key] for key in raw if key != "dimensions"}, "'dimensions' is missing"),
        (lambda raw: [], "no schema version"),
    ],
)
def test_unusable_index(folder, change, expected):
    raw = json.loads(Index.read(folder).to_json())
    (folder / "index.json").write_text(json.dumps(change(raw)))
    with pytest.raises(ShardError, match=expected):
        check(folder)


def test_missing_index(tmp_path):
    with pytest.raises(ShardError, match="are not finished"):
        check(tmp_path)


def test_index_round_trip(folder):
    index = Index.read(folder)
    assert Index.from_json(index.to_json(), "again") == index
    assert asdict(Index.read(folder)) == asdict(index)
