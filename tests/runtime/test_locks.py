"""A lock is held by one living process, which the others can name."""

import errno
import fcntl
import os
import re
import signal
import subprocess
import sys

import pytest

from runtime.locks import LockedError, lock_of, locked, owner_of
from tests.helpers import ROOT

HOLD = (
    "import sys, time; from pathlib import Path; from runtime.locks import locked\n"
    "with locked(Path(sys.argv[1]), 'output=x', 'wait'):\n    {work}"
)


def holder(lock, work="print('held', flush=True); time.sleep(60)"):
    command = [sys.executable, "-c", HOLD.format(work=work), str(lock)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_told_whose_it_is(tmp_path):
    lock = tmp_path / "new" / ".lock"
    process = holder(lock)
    try:
        with (
            pytest.raises(LockedError, match=rf"^output=y: is being written by process {process.pid} on .*; take z$"),
            locked(lock, "output=y", "take z"),
        ):
            pass
        assert owner_of(lock).process == process.pid
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", owner_of(lock).started)
    finally:
        process.kill()
        process.wait()
    assert lock.exists()
    assert owner_of(lock) is None
    with locked(lock, "output=y", "take z"):
        assert owner_of(lock).process == os.getpid()
    assert not lock.exists()


def test_a_forked_worker_does_not_keep_the_lock_of_a_killed_parent(tmp_path):
    lock = tmp_path / ".lock"
    work = "import os; child = os.fork(); child or print('held', flush=True); time.sleep(20)"
    process = holder(lock, work)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with locked(lock, "output=y", "take z"):
        pass


def test_waiting_for_the_first(tmp_path, capsys):
    lock = tmp_path / ".lock"
    process = holder(lock, "print('held', flush=True); time.sleep(0.5)")
    with locked(lock, "the plan", "", wait=True):
        assert process.wait(10) == 0
    assert re.fullmatch(rf"note  the plan: waiting for process {process.pid} on .*\n", capsys.readouterr().err)


def test_many_waiters_exclude_each_other(tmp_path):
    lock, inside = tmp_path / "new" / ".lock", tmp_path / "inside"  # its creator removes the folder if it is empty
    work = f"print('held'); open({str(inside)!r}, 'x'); time.sleep(0.02); __import__('os').unlink({str(inside)!r})"
    waiting = HOLD.replace("'wait')", "'wait', wait=True)").format(work=work)
    command = [sys.executable, "-c", waiting, str(lock)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6
    assert not lock.exists()


def test_a_new_folder_stays_if_it_holds_something(tmp_path):
    lock = tmp_path / "new" / ".lock"
    with locked(lock, "output=y", "take z"):
        (lock.parent / "video.mp4").touch()
    assert list(lock.parent.iterdir()) == [lock.parent / "video.mp4"]


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "thesis").write_text("mine")
    (tmp_path / ".lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(OSError), locked(tmp_path / ".lock", "output=y", "take z"):
        pass
    assert (tmp_path / "thesis").read_text() == "mine"


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked(tmp_path / ".lock", "output=y", "take z"):
        pass
    assert "this file system has no locks (No locks available)" in capsys.readouterr().err


def test_where_locks_are(tmp_path):
    assert lock_of(tmp_path) == tmp_path / ".lock"
    assert lock_of(tmp_path / "talk.mp4") == tmp_path / ".talk.mp4.lock"
    assert len(lock_of(tmp_path / ("x" * 255)).name) < 100
    assert owner_of(tmp_path / "none") is None
