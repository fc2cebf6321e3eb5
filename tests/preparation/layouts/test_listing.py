"""Lists source folders in a fixed order, with unusual file names and file types; keys are equal on every machine."""

import os
import random
import shutil
import tempfile
import unicodedata
from pathlib import Path, PurePosixPath

import pytest

from configs.preparation import DatasetConfig
from preparation.clip_source import Reason
from preparation.layouts import find_clips
from preparation.layouts.listing import LayoutError, list_files, path_key, require_unique
from tests.helpers.files import touch, without_privileges

NAMES = ["face (1).mp4", "Müller.mp4", "M003#happy.mp4", "don't be sad!.mp4", "王小明 说话.MOV", "~f.mp4", "plain.mp4"]


def test_order_does_not_depend_on_creation(tmp_path):
    names = [f"{folder}/{name}" for folder in ("b", "a", "a/z", "ü") for name in NAMES]
    orders = []
    for seed in range(3):
        source = tmp_path / str(seed)
        random.Random(seed).shuffle(names)
        touch(source, *names)
        orders.append([entry.relative for entry in list_files(source).videos])
    assert orders[0] == orders[1] == orders[2]
    assert sorted(map(str, orders[0])) == sorted(names)


@pytest.mark.parametrize("name", ["a.mp4", "a.MP4", "a.mkv", "a.AVI", "a.webm", "a.ts", "a.3gp", "a.ogv", "a.wmv"])
def test_extensions_in_any_case(tmp_path, name):
    touch(tmp_path, name)
    assert [entry.relative.name for entry in list_files(tmp_path).videos] == [name]


def test_other_files_are_counted(tmp_path):
    touch(tmp_path, "a.mp4", "._a.mp4", ".hidden/b.mp4", "notes.txt", "x/notes.TXT", "README", "a.mp4.part")
    listing = list_files(tmp_path)
    assert [entry.relative.name for entry in listing.videos] == ["a.mp4"]
    assert listing.ignored == {
        "hidden files and folders": 2,
        "other files (.txt)": 2,
        "other files (no extension)": 1,
        "other files (.part)": 1,
    }


def test_links_are_followed_once(tmp_path):
    touch(tmp_path / "source", "a/clip.mp4")
    touch(tmp_path / "elsewhere", "far.mp4")
    (tmp_path / "source/a/loop").symlink_to(tmp_path / "source")
    (tmp_path / "source/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "source/self.mp4").symlink_to("self.mp4")
    (tmp_path / "source/gone.mp4").symlink_to("nowhere.mp4")
    listing = list_files(tmp_path / "source")
    assert [str(entry.relative) for entry in listing.videos] == ["a/clip.mp4", "link/far.mp4"]
    assert {clip.name for clip in listing.problems} == {"self.mp4", "gone.mp4"}
    assert {clip.problem for clip in listing.problems} == {Reason.UNREADABLE}
    assert listing.ignored == {"folders reached a second time through a link": 1}


def test_pipe_is_reported_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (clip,) = list_files(tmp_path).problems
    assert clip.problem == Reason.UNREADABLE
    assert "not a regular file" in clip.problem_detail


def test_unreadable_folder_is_reported(request):
    source = Path(tempfile.mkdtemp())  # every folder above it can be entered by others, unlike pytest's
    request.addfinalizer(lambda: shutil.rmtree(source))
    source.chmod(0o755)
    touch(source, "closed/a.mp4", "open/b.mp4")
    (source / "closed").chmod(0)
    try:
        with without_privileges():
            listing = list_files(source)
    finally:
        (source / "closed").chmod(0o755)
    assert [str(entry.relative) for entry in listing.videos] == ["open/b.mp4"]
    (clip,) = listing.problems
    assert (clip.name, clip.problem) == ("closed", Reason.UNREADABLE)
    assert "Permission denied" in clip.problem_detail


def test_source_that_is_not_a_folder_is_refused(tmp_path):
    touch(tmp_path, "clip.mp4")
    with pytest.raises(LayoutError, match="no such folder"):
        list_files(tmp_path / "missing")
    with pytest.raises(LayoutError, match="is a file"):
        list_files(tmp_path / "clip.mp4")


@pytest.mark.parametrize("name", NAMES)
def test_keys_have_only_safe_characters(name):
    key = path_key(PurePosixPath("Weiß & Söhne", name))
    assert key.isascii()
    assert key.replace("_", "").replace("-", "").isalnum()


def test_plain_paths_stay_readable():
    assert path_key(PurePosixPath("ann/talk_01.mp4")) == "ann--talk_01"
    assert path_key(PurePosixPath("Müller.mp4")).startswith("Muller-")


def test_similar_paths_have_different_keys():
    stems = ["a/b", "a--b", "a_b", "a b", "a#b", "ä/b", "a/b ", "A/b", "a.b", "a-b", "-a/b", "a-/b", "王", "李"]
    alike = ["a/b.mov", "a/b.MP4", *(f"{stem}.mp4" for stem in (*stems, "x" * 300 + "1", "x" * 300 + "2"))]
    keys = [path_key(PurePosixPath(name)) for name in alike]
    assert len(set(keys)) == len(alike)
    assert max(map(len, keys)) < 140


def test_composed_and_decomposed_umlauts_give_the_same_key(tmp_path):
    composed, split = (unicodedata.normalize(form, "Jürgen/Grüße.mp4") for form in ("NFC", "NFD"))
    assert composed != split
    assert path_key(PurePosixPath(composed)) == path_key(PurePosixPath(split))
    touch(tmp_path, split)  # as on a disk written by macOS
    (entry,) = list_files(tmp_path).videos
    assert str(entry.relative) == composed
    assert entry.path.exists()


def test_names_that_are_not_utf8_are_listed_and_printable(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).touch()
    (entry,) = list_files(tmp_path).videos
    assert entry.path.exists()
    assert entry.name == r"caf\xe9.mp4"
    assert path_key(entry.relative).isascii()


def test_names_that_differ_only_in_unicode_form_are_refused(tmp_path):
    touch(tmp_path, *(unicodedata.normalize(form, "ü.mp4") for form in ("NFC", "NFD")))
    with pytest.raises(LayoutError, match="give the same key"):
        find_clips(DatasetConfig(name="folder"), tmp_path)
    require_unique([])
