"""Whatever is done to a finished shard, ``check`` names it."""

import io
import json
import tarfile
from dataclasses import asdict, replace

import numpy as np
import pytest

from datamodules.schema import Index, ShardError
from preparation.check import check
from runtime.files import sha256_of
from tests.helpers.shards import make_shards


@pytest.fixture
def folder(tmp_path):
    make_shards(tmp_path, samples=4, shards=2, frames=(30,))
    return tmp_path


def rewrite(folder, change, shard=0):
    """Rewrites a shard with ``change(name, bytes) -> (name, bytes)`` and makes index sizes and hashes agree."""
    index = Index.read(folder)
    path = folder / index.shards[shard].name
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]
    offsets = {}
    with tarfile.open(path, "w") as tar:
        for name, data in (change(*member) for member in members):
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with tarfile.open(path) as tar:
        offsets = {member.name: (member.offset_data, member.size) for member in tar}
    entry = replace(index.shards[shard], bytes=path.stat().st_size, sha256=sha256_of(path))
    samples = tuple(
        replace(s, members={m: offsets.get(f"{s.key}.{m}", place) for m, place in s.members.items()})
        if s.shard == entry.name
        else s
        for s in index.samples
    )
    shards = tuple(entry if number == shard else other for number, other in enumerate(index.shards))
    (folder / "index.json").write_text(replace(index, shards=shards, samples=samples).to_json())


def array_change(member, change):
    def apply(name, data):
        if not name.endswith(member):
            return name, data
        buffer = io.BytesIO()
        np.save(buffer, change(np.load(io.BytesIO(data))))
        return name, buffer.getvalue()

    return apply


def test_good_shards_have_no_problems(folder):
    assert check(folder) == []


def test_a_shard_cut_short(folder):
    path = folder / Index.read(folder).shards[0].name
    path.write_bytes(path.read_bytes()[:-5000])
    assert any("cut short" in problem and path.name in problem for problem in check(folder))


def test_a_flipped_byte(folder):
    path = folder / Index.read(folder).shards[0].name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert any("sha256 differs" in problem for problem in check(folder))


def test_a_missing_shard_and_an_extra_one(folder):
    path = folder / Index.read(folder).shards[0].name
    path.rename(folder / "other-00000.tar")
    told = "\n".join(check(folder))
    assert f"{path.name}: missing" in told
    assert "other-00000.tar: not in index.json" in told


@pytest.mark.parametrize(
    ("member", "change", "said"),
    [
        ("latent.npy", lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.nan, x), "NaN"),
        ("audio.npy", lambda x: x[:-1], "audio.npy is float16(29,"),
        ("lip.npy", lambda x: x.astype(np.float64), "lip.npy is float64"),
        ("expression.npy", lambda x: x[:, :-1], "expression.npy is"),
        ("boxes.npy", lambda x: x[..., [2, 1, 0, 3]], "an empty box"),
        ("boxes.npy", lambda x: x + np.float32(1000), "a box outside the frame"),
        ("portraits.npy", lambda x: x[:3], "portraits.npy is uint8(3,"),
    ],
)
def test_wrong_arrays(folder, member, change, said):
    dtype = {"latent.npy": np.float16}.get(member)
    rewrite(folder, array_change(member, lambda x: change(x).astype(dtype) if dtype else change(x)))
    assert any(said in problem for problem in check(folder)), check(folder)


def test_pickled_arrays_are_never_loaded(folder):
    def pickled(name, data):
        if not name.endswith("lip.npy"):
            return name, data
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"a": print}], dtype=object), allow_pickle=True)
        return name, buffer.getvalue()

    rewrite(folder, pickled)
    assert any("cannot be decoded" in problem and "pickle" in problem for problem in check(folder))


def test_member_names_that_leave_the_folder(folder):
    rewrite(folder, lambda name, data: (f"../{name}" if name.endswith("lip.npy") else name, data))
    assert any("../" in problem and "not a plain file name" in problem for problem in check(folder))


def test_a_missing_member(folder):
    rewrite(folder, lambda name, data: (name.replace("speech.flac", "noise.flac"), data))
    told = "\n".join(check(folder))
    assert "unknown member" in told
    assert "lacks speech.flac" in told


def test_meta_that_disagrees_with_the_index(folder):
    def other(name, data):
        if not name.endswith("meta.json"):
            return name, data
        return name, json.dumps({**json.loads(data), "speaker": "someone else"}).encode()

    rewrite(folder, other)
    assert any("speaker someone else" in problem for problem in check(folder))


def test_a_key_twice_and_a_speaker_on_both_sides(folder):
    index = Index.read(folder)
    first, second = index.samples[:2]
    samples = (first, replace(second, key=first.key), *index.samples[2:])
    (folder / "index.json").write_text(replace(index, samples=samples).to_json())
    assert any(f"key {first.key} occurs twice" in problem for problem in check(folder))

    sides = (replace(first, speaker="anna", split="train"), replace(second, speaker="anna", split="test"))
    (folder / "index.json").write_text(replace(index, samples=sides + index.samples[2:]).to_json())
    assert any("speaker anna is on several sides of the split: test, train" in problem for problem in check(folder))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: {**raw, "schema": 99}, "newer version"),
        (lambda raw: {key: raw[key] for key in raw if key != "dimensions"}, "'dimensions' is missing"),
        (lambda raw: [], "no schema version"),
    ],
)
def test_an_index_that_cannot_be_used(folder, change, said):
    raw = json.loads(Index.read(folder).to_json())
    (folder / "index.json").write_text(json.dumps(change(raw)))
    with pytest.raises(ShardError, match=said):
        check(folder)


def test_no_index(tmp_path):
    with pytest.raises(ShardError, match="does not hold finished shards"):
        check(tmp_path)


def test_an_index_survives_its_own_text(folder):
    index = Index.read(folder)
    assert Index.from_json(index.to_json(), "again") == index
    assert asdict(Index.read(folder)) == asdict(index)
