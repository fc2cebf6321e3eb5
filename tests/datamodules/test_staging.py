"""Staging: size limit, sharing between processes, integrity checks and errors."""

import functools
import http.server
import multiprocessing
import os
import shlex
import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest

import media
from datamodules.remote import address, read_index
from datamodules.schema import ShardError
from datamodules.staging import GIB, STAGE_NAME, StagedShards, sha256_of_open, shard_source
from tests.helpers.files import overwrite
from tests.helpers.shards import make_shards


@pytest.fixture
def origin(tmp_path):
    """A folder of four shards whose name contains spaces and a quote."""
    folder = tmp_path / "the origin's shards"
    return folder, make_shards(folder, samples=4, shards=4, frames=(30,))


def staged(origin, tmp_path, shards):
    """A staging folder with room for the given number of shards."""
    folder, index = origin
    return StagedShards(str(folder), index, tmp_path / "stage", shards * largest(index) / GIB)


def largest(index):
    return max(shard.bytes for shard in index.shards)


def read_all(source, shard):
    with os.fdopen(source.open(shard), "rb") as file:
        return file.read()


def pipe_root(folder):
    return f"pipe:cat {shlex.quote(str(folder))}/{{name}}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "pipe", "https"])
def test_staged_shards_equal_the_originals(origin, tmp_path, kind):
    folder, index = origin
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        root = {"folder": str(folder), "pipe": pipe_root(folder), "https": url}[kind]
        assert read_index(root) == index
        source = shard_source(root, index, str(tmp_path / "stage"), 1)
        for shard in index.shards:
            assert read_all(source, shard) == (folder / shard.name).read_bytes()
        server.shutdown()
    for path in folder.iterdir():
        path.unlink()
    assert len(read_all(source, index.shards[0])) == index.shards[0].bytes  # from the staged copy


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_addresses_of_files():
    assert address("s3://bucket/a b", "x.tar") == "pipe:aws s3 cp 's3://bucket/a b/x.tar' -"
    assert address("https://host/data/", "x.tar") == "https://host/data/x.tar"
    assert address("https://host/{name}?token=1", "x.tar") == "https://host/x.tar?token=1"
    with pytest.raises(ShardError, match="must contain {name}"):
        address("pipe:cat /mnt/x.tar", "x.tar")


def test_s3_calls_the_aws_client(origin, tmp_path, monkeypatch):
    """Uses a script named ``aws`` that maps the bucket to a folder."""
    folder, index = origin
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1 $2 $4" = "s3 cp -" ] && exec cat {shlex.quote(str(folder))}/"${{3##*/}}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert read_index("s3://bucket/prefix") == index


def test_the_least_recently_used_shard_is_removed_at_the_limit(origin, tmp_path):
    source = staged(origin, tmp_path, 2.5)
    a, b, c, _ = origin[1].shards

    def names():
        return {path.name for path in source.folder.iterdir()}

    for age, shard in ((300, a), (200, b)):
        os.close(source.open(shard))
        os.utime(source.folder / shard.name, (1e9 - age, 1e9 - age))
    assert names() == {a.name, b.name}
    os.close(source.open(a))  # now b is the least recently used
    held = source.open(b)
    os.utime(source.folder / b.name, (1e9, 1e9))
    os.close(source.open(c))
    assert names() == {a.name, c.name}
    assert len(os.read(held, b.bytes + 1)) == b.bytes  # a removed file stays readable for whoever has it open
    os.close(held)


def test_partial_files_of_a_killed_process_are_removed(origin, tmp_path):
    source = staged(origin, tmp_path, 1.5)
    first, second, *_ = origin[1].shards
    left = source.folder / f"{first.name}.part"
    left.write_bytes(b"x" * first.bytes)
    assert len(read_all(source, second)) == second.bytes
    assert not left.exists()


def test_a_shard_larger_than_the_limit_is_rejected(origin, tmp_path):
    with pytest.raises(ShardError, match="data.stage_gib"):
        staged(origin, tmp_path, 0.5)


def test_a_failing_command_is_named_with_its_status(origin, tmp_path):
    _, index = origin
    root = "pipe:exit 7 # {name}"
    with pytest.raises(ShardError, match=r"exit 7 # folder-00000.tar: could not be fetched \(exit status 7\)"):
        shard_source(root, index, str(tmp_path / "stage"), 1).open(index.shards[0])
    with pytest.raises(ShardError, match="exit status 7"):
        read_index(root)
    assert not [path for path in (tmp_path / "stage").rglob("*") if path.suffix in (".tar", ".part")]


def test_fetched_shards_are_checked(origin, tmp_path):
    folder, index = origin
    path = folder / index.shards[0].name
    good = path.read_bytes()
    for bad in (good[:-512], good[:-1] + b"\1"):
        path.write_bytes(bad)
        with pytest.raises(ShardError, match="bytes and sha256 .*, expected .* by the index"):
            shard_source(pipe_root(folder), index, str(tmp_path / "stage"), 1).open(index.shards[0])


def test_versions_of_a_dataset_are_staged_separately(origin, tmp_path):
    folder, index = origin
    changed = replace(index, shards=(replace(index.shards[0], sha256="0" * 64),))
    assert len({StagedShards(str(folder), i, tmp_path / "stage", 1).folder for i in (index, changed)}) == 2


@pytest.mark.slow
def test_processes_share_one_copy_within_the_limit(origin, tmp_path):
    """Four processes fetch each shard once; two processes stay within a limit of two shards."""
    folder, index = origin
    size = largest(index)
    fetched = tmp_path / "fetched"
    root = f"pipe:echo {{name}} >> {shlex.quote(str(fetched))}; sleep 0.05; cat {shlex.quote(str(folder))}/{{name}}"
    _read_in_processes(4, root, index, tmp_path / "stage", 4.2 * size / GIB, folder)
    assert sorted(fetched.read_text().split()) == sorted(shard.name for shard in index.shards)
    _read_in_processes(2, root, index, tmp_path / "tight", 2.2 * size / GIB, folder)
    assert sum(path.stat().st_size for path in (tmp_path / "tight").rglob("*.tar")) <= 2.2 * size


def _read_in_processes(count, *arguments):
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_read_shards, args=arguments) for _ in range(count)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    assert [job.exitcode for job in jobs] == [0] * count


def _read_shards(root, index, stage, gib, folder):
    source = StagedShards(root, index, stage, gib)
    for shard in index.shards:
        assert read_all(source, shard) == (folder / shard.name).read_bytes()


def test_other_files_in_the_staging_folder_are_not_removed(tmp_path):
    shards, stage = tmp_path / "shards", tmp_path / "scratch"
    index = make_shards(shards, samples=6, shards=3)
    other = stage / "thesis" / "0123456789abcdef" / "chapter.tar"
    other.parent.mkdir(parents=True)
    other.write_bytes(bytes(10_000_000))
    source = shard_source(str(shards), index, str(stage), 1.5 * largest(index) / GIB)
    for shard in index.shards:
        os.close(source.open(shard))
    assert other.stat().st_size == 10_000_000
    assert len(list(stage.glob("emotivetalk-shards/*/*.tar"))) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as other users")
@pytest.mark.parametrize("plant", ["link", "shard", "folder"])
def test_another_user_can_neither_overwrite_nor_plant(origin, tmp_path, plant):
    """The attacker knows root and index, so also the names of the staging folder."""
    folder, index = origin
    place_of_all = Path(tempfile.mkdtemp())
    place_of_all.chmod(0o777)
    try:
        _attacked(str(folder), index, place_of_all, plant)
    finally:
        shutil.rmtree(place_of_all)


def _attacked(root, index, place_of_all, plant):
    thesis = place_of_all / "thesis"
    thesis.write_text("mine")
    thesis.chmod(0o600)
    os.chown(thesis, 65533, 65533)
    shard = index.shards[0]

    def attack():
        stage = place_of_all / "stage" / STAGE_NAME
        stage.mkdir(parents=True)
        if plant != "folder":
            place = stage / StagedShards(root, index, place_of_all / "elsewhere", 1).folder.name
            place.mkdir()
            (stage / ".locks").mkdir(0o777)
            if plant == "link":
                (place / f"{shard.name}.part").symlink_to(thesis)
            else:
                (place / shard.name).write_bytes(bytes(shard.bytes))
            for each in (stage, place, stage / ".locks"):
                each.chmod(0o777)

    def load():
        with pytest.raises(ShardError, match=r"belongs to the user with id 65534, .* or set data.stage_to"):
            StagedShards(root, index, place_of_all / "stage", 1).open(shard)

    assert as_user(65534, attack) == 0
    assert as_user(65533, load) == 0
    assert thesis.read_text() == "mine"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as other users")
def test_a_shard_of_another_user_is_compared_with_its_hash(origin, tmp_path):
    source, (shard, *_) = staged(origin, tmp_path, 4), origin[1].shards
    read_all(source, shard)
    path = source.folder / shard.name
    os.chown(path, 65534, 65534)
    assert read_all(source, shard) == (origin[0] / shard.name).read_bytes()
    path.write_bytes(bytes(shard.bytes))
    with pytest.raises(ShardError, match="was written by another user and is not the shard"):
        source.open(shard)


def test_links_in_the_staging_folder_are_not_followed(origin, tmp_path):
    source, (shard, *_) = staged(origin, tmp_path, 4), origin[1].shards
    (tmp_path / "thesis").write_text("mine")
    (source.folder / f"{shard.name}.part").symlink_to(tmp_path / "thesis")
    assert read_all(source, shard) == (origin[0] / shard.name).read_bytes()
    assert (tmp_path / "thesis").read_text() == "mine"
    (source.folder / shard.name).unlink()
    (source.folder / shard.name).symlink_to(origin[0] / shard.name)
    with pytest.raises(OSError, match="symbolic links"):
        source.open(shard)


def as_user(user, work):
    """Runs a function in a child process of another user; returns its exit status."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgid(user)
            os.setuid(user)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_local_shard_is_compared_once_with_its_hash(origin, tmp_path, monkeypatch):
    """Zeros in the middle of a shard are found, by the process that opens it and by those that come later."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, index = origin
    hashed = []
    monkeypatch.setattr(
        "datamodules.staging.sha256_of_open", lambda descriptor: hashed.append(1) or sha256_of_open(descriptor)
    )
    shard, other = index.shards[:2]
    for _ in range(2):  # the second source is that of another process
        source = shard_source(str(folder), index, None, 1)
        os.close(source.open(shard))
        os.close(source.open(shard))
    assert len(hashed) == 1
    overwrite(folder / other.name, other.bytes // 2, bytes(2000))
    for _ in range(2):
        with pytest.raises(ShardError, match=rf"{other.name}: its content was changed: its sha256 differs"):
            shard_source(str(folder), index, None, 1).open(other)
    assert len(hashed) == 2


def test_a_shard_with_a_dangerous_member_is_refused(tmp_path, monkeypatch):
    """In place and when it is copied, before anything is decoded here."""
    folder = tmp_path / "shards"
    index = make_shards(folder, samples=2, shards=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looked = functools.partial(media.dangerous_member, limits=media.MediaLimits(look_seconds=0.001))
    monkeypatch.setattr(media, "dangerous_member", looked)
    for stage in (None, str(tmp_path / "stage")):
        with pytest.raises(ShardError, match=r"clip_0000\.speech\.flac: looking at it takes longer than 0\.001 s"):
            shard_source(str(folder), index, stage, 1).open(index.shards[0])
    assert not [path for path in (tmp_path / "stage").rglob("*.tar*") if path.suffix != ".lock"]


def test_a_root_that_sends_without_end_is_stopped(origin, tmp_path, monkeypatch):
    folder, index = origin
    monkeypatch.setattr("datamodules.remote.MAX_INDEX", 1 << 20)
    with pytest.raises(ShardError, match="sends more than the expected 1048576 bytes"):
        read_index("pipe:cat /dev/zero # {name}")
    source = StagedShards("pipe:cat /dev/zero # {name}", index, tmp_path / "stage", 1)
    with pytest.raises(ShardError, match=f"sends more than the expected {index.shards[0].bytes} bytes"):
        source.open(index.shards[0])
    assert not list(source.folder.glob("*.tar*"))
