"""Temporary folders are private and go with their program; lasting folders are refused when they are not private."""

import os
import signal
import subprocess
import sys

import pytest

from runtime.temporary import PrivateFolderError, own_folder, temporary_folder
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
            assert folder.exists() and other != folder
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


def test_an_own_folder_is_created_once(tmp_path):
    folder = own_folder(tmp_path / "a" / "b", "choose another")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert own_folder(folder, "choose another") == folder


@pytest.mark.parametrize("what", ["link", "file", "open"])
def test_a_folder_that_is_not_private_is_refused(tmp_path, what):
    target = tmp_path / "target"
    target.mkdir(0o700)
    folder = tmp_path / "folder"
    if what == "link":
        folder.symlink_to(target)
    elif what == "file":
        folder.touch()
    else:
        folder.mkdir(0o700)
        folder.chmod(0o770)
    with pytest.raises(PrivateFolderError, match=r"folder: (is not a folder|has mode 0770), .*; choose another$"):
        own_folder(folder, "choose another")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_a_folder_of_another_user_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    os.chown(folder, 65534, 65534)
    with pytest.raises(PrivateFolderError, match="belongs to user 65534"):
        own_folder(folder, "choose another")
