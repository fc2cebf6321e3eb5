"""Staging: bounded, shared between processes, checked, and readable when it fails."""

import functools
import http.server
import multiprocessing
import os
import shlex
import threading
from dataclasses import replace

import pytest

from datamodules.schema import ShardError
from datamodules.staging import GIB, StagedShards, address, read_index, shard_source
from tests.helpers.shards import make_shards


@pytest.fixture
def origin(tmp_path):
    """A folder of four shards, with a blank and a quote in its name."""
    folder = tmp_path / "the origin's shards"
    return folder, make_shards(folder, samples=4, shards=4, frames=(30,))


def staged(origin, tmp_path, shards):
    """A stage with room for so many of the origin's shards."""
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
def test_staged_shards_are_the_origins(origin, tmp_path, kind):
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
    assert len(read_all(source, index.shards[0])) == index.shards[0].bytes  # from the copy, without the origin


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_addresses():
    assert address("s3://bucket/a b", "x.tar") == "pipe:aws s3 cp 's3://bucket/a b/x.tar' -"
    assert address("https://host/data/", "x.tar") == "https://host/data/x.tar"
    assert address("https://host/{name}?token=1", "x.tar") == "https://host/x.tar?token=1"
    with pytest.raises(ShardError, match="must hold {name}"):
        address("pipe:cat /mnt/x.tar", "x.tar")


def test_s3_calls_the_aws_client(origin, tmp_path, monkeypatch):
    """With a replacement for the ``aws`` program, which maps the bucket to a folder."""
    folder, index = origin
    program = tmp_path / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\n[ "$1 $2 $4" = "s3 cp -" ] && exec cat {shlex.quote(str(folder))}/"${{3##*/}}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    assert read_index("s3://bucket/prefix") == index


def test_the_bound_holds_and_the_least_recently_used_goes(origin, tmp_path):
    source = staged(origin, tmp_path, 2.5)
    a, b, c, _ = origin[1].shards

    def names():
        return {path.name for path in source.folder.iterdir()}

    for age, shard in ((300, a), (200, b)):
        os.close(source.open(shard))
        os.utime(source.folder / shard.name, (1e9 - age, 1e9 - age))
    assert names() == {a.name, b.name}
    os.close(source.open(a))  # now b is the older one
    held = source.open(b)
    os.utime(source.folder / b.name, (1e9, 1e9))
    os.close(source.open(c))
    assert names() == {a.name, c.name}
    assert len(os.read(held, b.bytes + 1)) == b.bytes  # who has it open reads on
    os.close(held)


def test_leftovers_of_a_killed_process_are_removed(origin, tmp_path):
    source = staged(origin, tmp_path, 1.5)
    first, second, *_ = origin[1].shards
    left = source.folder / f"{first.name}.part"
    left.write_bytes(b"x" * first.bytes)
    assert len(read_all(source, second)) == second.bytes
    assert not left.exists()


def test_a_shard_above_the_bound_is_refused(origin, tmp_path):
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


def test_what_arrives_is_checked(origin, tmp_path):
    folder, index = origin
    path = folder / index.shards[0].name
    good = path.read_bytes()
    for bad in (good[:-512], good[:-1] + b"\1"):
        path.write_bytes(bad)
        with pytest.raises(ShardError, match="arrived with .* its index says"):
            shard_source(pipe_root(folder), index, str(tmp_path / "stage"), 1).open(index.shards[0])


def test_another_version_of_a_dataset_is_staged_apart(origin, tmp_path):
    folder, index = origin
    changed = replace(index, shards=(replace(index.shards[0], sha256="0" * 64),))
    assert len({StagedShards(str(folder), i, tmp_path / "stage", 1).folder for i in (index, changed)}) == 2


@pytest.mark.slow
def test_processes_share_one_copy_within_the_bound(origin, tmp_path):
    """Four processes read four shards through a stage that holds two; every fetch is logged by the command."""
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


def test_what_else_lies_in_the_staging_folder_is_left_alone(tmp_path):
    shards, stage = tmp_path / "shards", tmp_path / "scratch"
    index = make_shards(shards, samples=6, shards=3)
    mine = stage / "thesis" / "0123456789abcdef" / "chapter.tar"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(bytes(10_000_000))
    source = shard_source(str(shards), index, str(stage), 1.5 * largest(index) / GIB)
    for shard in index.shards:
        os.close(source.open(shard))
    assert mine.stat().st_size == 10_000_000
    assert len(list(stage.glob("emotivetalk-shards/*/*.tar"))) == 1
