"""Temporary folders are private and go with their program."""

import os
import signal
import subprocess
import sys

import pytest

from runtime.temporary import temporary_folder
from tests.helpers import ROOT

KILLED = """
import os, signal, sys
from runtime.temporary import temporary_folder
with temporary_folder("test", sys.argv[1]) as folder:
    (folder / "face.png").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_folder_of_one_block(tmp_path):
    with temporary_folder("test", tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "x").touch()
        with temporary_folder("test", tmp_path) as other:
            assert folder.exists()
            assert other != folder
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_programs_are_removed_by_the_next(tmp_path):
    for other in ("emotivetalk-page-1-x", "emotivetalk-test-x", "other"):
        (tmp_path / other).mkdir(0o700)
    before = set(tmp_path.iterdir())
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    for _ in range(2):
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        assert len(set(tmp_path.iterdir()) - before) == 1
    with temporary_folder("test", tmp_path):
        assert len(set(tmp_path.iterdir()) - before) == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_folders_of_others_and_links_are_left_alone(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / "thesis").mkdir(0o700)
    (tmp_path / f"emotivetalk-test-{ended.pid}-link").symlink_to(tmp_path / "thesis")
    for name, mode, owner in (("open", 0o777, 0), ("other", 0o700, 65534)):
        folder = tmp_path / f"emotivetalk-test-{ended.pid}-{name}"
        folder.mkdir()
        folder.chmod(mode)
        os.chown(folder, owner, owner)
    before = set(tmp_path.iterdir())
    with temporary_folder("test", tmp_path):
        pass
    assert set(tmp_path.iterdir()) == before
