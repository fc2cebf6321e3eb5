"""Home, caches and private folders: without HOME, without a name, and in a temporary folder that others share."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from runtime import folders
from runtime.folders import UnsafeFolder, cache_folder, home, private_folder

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
sys.path.insert(0, {root!r})
{change}
from callbacks.run_log import without_home
from encoders.weights import roots
from evaluation.cache import FeatureStore, default_folder
FeatureStore(default_folder())
print(without_home(["/nowhere/x"]), *roots(), default_folder())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "home_variable", [None, *(pytest.param(home, marks=pytest.mark.nightly) for home in ("/nonexistent", ""))]
)
def test_nameless_users_without_home_get_a_cache_and_one_word(request, home_variable):
    root = hasattr(os, "setuid") and os.getuid() == 0
    if not root and not home_variable:
        pytest.skip("only root can become a user without a name")
    user = 54321 if root else os.getuid()
    change = f"import evaluation.cache, encoders.weights, callbacks.run_log; os.setuid({user})"
    temporary = Path(tempfile.mkdtemp())  # every folder above it can be entered by others
    temporary.chmod(0o777)
    request.addfinalizer(lambda: shutil.rmtree(temporary))
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(temporary)}
    if home_variable is not None:
        environment["HOME"] = home_variable
    script = SCRIPT.format(root=str(ROOT), change=change)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    cache = temporary / f"emotivetalk-{user}" / "cache"
    assert done.stdout.split() == ["['/nowhere/x']", str(cache / "weights"), str(cache / "features")]
    assert "set XDG_CACHE_HOME" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (cache.parent.stat().st_mode & 0o777, cache.parent.stat().st_uid) == (0o700, user)


def test_a_home_that_cannot_be_written_is_used_only_if_the_cache_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert home() is None
    assert cache_folder("weights", create=False).is_relative_to(tmp_path / "tmp")
    assert not (tmp_path / "tmp").exists()
    assert cache_folder("weights").is_relative_to(tmp_path / "tmp")
    (tmp_path / "home").mkdir()
    assert cache_folder("weights") == tmp_path / "home/.cache/emotivetalk/weights"
    monkeypatch.setattr(folders.os, "access", lambda path, mode: False)
    assert cache_folder("weights").is_relative_to(tmp_path / "tmp")
    (tmp_path / "home/.cache/emotivetalk/weights").mkdir(parents=True)
    assert cache_folder("weights").is_relative_to(tmp_path / "home")


def test_a_private_folder_of_another_or_through_a_link_is_refused(tmp_path, monkeypatch):
    folder = private_folder(tmp_path / "mine")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert private_folder(folder) == folder
    assert not private_folder(tmp_path / "absent", create=False).exists()
    (tmp_path / "link").symlink_to(folder)
    with pytest.raises(UnsafeFolder, match="is a link"):
        private_folder(tmp_path / "link")
    folder.chmod(0o750)
    with pytest.raises(UnsafeFolder, match="mode 750, expected 700"):
        private_folder(folder)
    folder.chmod(0o700)
    monkeypatch.setattr(folders.os, "getuid", lambda: 12345)
    with pytest.raises(UnsafeFolder, match="belongs to the user"):
        private_folder(folder)
