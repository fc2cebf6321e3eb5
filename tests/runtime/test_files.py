"""Atomic writing survives killed processes and full disks; hashes agree with other programs."""

import hashlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from runtime import files
from runtime.files import (
    WriteError,
    below,
    bytes_below,
    git_blob_of,
    partial_of,
    remove_partials,
    require_writable,
    sha256_of,
    whole_file,
    write_whole,
)  # fmt: skip


def test_the_new_content_replaces_the_old(tmp_path):
    path = tmp_path / "x.json"
    write_whole(path, "a long first content")
    write_whole(path, b"short")
    assert path.read_bytes() == b"short"
    write_whole(path, "na\u00efve \udcff")
    assert path.read_bytes() == "naïve \\udcff".encode()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.bin", "long " * 50, "文" * 85])
def test_any_file_name_works(tmp_path, name):
    write_whole(tmp_path / name, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_folders_are_written_atomically(tmp_path):
    def fail():
        with whole_file(tmp_path / "page") as partial:
            (partial / "clips").mkdir(parents=True)
            assert not (tmp_path / "page").exists()
            raise RuntimeError("no clip")

    with pytest.raises(RuntimeError, match="no clip"):
        fail()
    assert list(tmp_path.iterdir()) == []
    with whole_file(tmp_path / "page") as partial:
        (partial / "clips").mkdir(parents=True)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["page", "page/clips"]


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    here = socket.gethostname()
    names = (f"{here}-{ended.pid}-0badcafe", f"{here}-1-0badcafe", f"{here}-2nd-7-0badcafe", "there-7-0badcafe")
    owners = [tmp_path / f".x [1].json.{name}.partial" for name in names]
    for file in owners:
        file.touch()
    write_whole(tmp_path / "x [1].json", b"new")
    left = {file for file in tmp_path.iterdir() if file.suffix == ".partial"}
    assert left == set(owners[1:])  # of a process that runs, and of other machines


def test_a_full_folder_is_not_searched_for_every_file(tmp_path, monkeypatch):
    for number in range(3000):
        (tmp_path / f"{number}.json").touch()
    looks = []
    monkeypatch.setattr(files, "remove_partials", lambda folder: looks.append(folder) or remove_partials(folder))
    for number in range(200):
        partial_of(tmp_path / f"{number}.json")
    assert 1 <= len(looks) < 20


def test_a_kill_keeps_the_old_content_and_the_next_writer_removes_the_temporary_file(tmp_path):
    path = tmp_path / "x.bin"
    write_whole(path, b"old")
    code = """
import os, signal, sys
from pathlib import Path
from runtime.files import whole_file
with whole_file(Path(sys.argv[1])) as partial:
    partial.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    write_whole(path, b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"new"]


def test_a_full_disk_is_named_by_the_file_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "x.bin"
    write_whole(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match=r"x\.bin") as caught:
            write_whole(path, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.filename == str(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_an_error_of_another_file_names_that_file(tmp_path):
    with pytest.raises(OSError, match="gone") as caught, whole_file(tmp_path / "x"):
        (tmp_path / "gone").read_bytes()
    assert caught.value.filename == str(tmp_path / "gone")


def test_paths_that_cannot_be_written_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"output=.*out\.mp4: cannot be written \(.*/file is a file, not a folder\); "):
        require_writable(tmp_path / "file" / "out.mp4")
    with pytest.raises(WriteError, match=r"^output=here: cannot be written \(is a folder\)"):
        require_writable(tmp_path, "output=here")
    require_writable(tmp_path / "new" / "deep" / "out.mp4")
    assert list((tmp_path / "new" / "deep").iterdir()) == []


def test_hashes_agree_with_their_tools(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 10_000)
    for command, found in ((["sha256sum"], sha256_of(path)), (["git", "hash-object"], git_blob_of(path))):
        message = subprocess.run([*command, path], capture_output=True, check=True, text=True).stdout
        assert message.split()[0] == found
    os.utime(path, (1, 1))
    path.write_bytes(b"changed")
    assert sha256_of(path) == hashlib.sha256(b"changed").hexdigest()


def test_a_folder_that_changes_while_it_is_read(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "x.bin").write_bytes(b"12345")
    assert bytes_below(tmp_path) == 15
    assert bytes_below(tmp_path / "a" / "inner" / "x.bin") == 5
    assert bytes_below(tmp_path / "none") == 0
    paths = below(tmp_path)
    seen = [next(paths)]
    for name in {"a", "b", "c"} - {seen[0].name}:
        shutil.rmtree(tmp_path / name)
    seen += list(paths)
    assert seen[0] / "inner" / "x.bin" in seen
