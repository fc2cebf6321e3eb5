"""Lists source folders in a fixed order, with unusual file names and file types; keys are equal on every machine."""

import os
import random
import shutil
import tarfile
import tempfile
import unicodedata
import zipfile
from dataclasses import replace
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


def packed(source: Path, target: Path, kind: str) -> Path:
    """Copies a folder, with each folder of its second level in an archive, as MEAD's ``M003/video.tar``."""
    for folder in sorted(path for path in source.glob("*/*") if path.is_dir()):
        archive = target / folder.relative_to(source).with_name(f"{folder.name}.{kind}")
        archive.parent.mkdir(parents=True, exist_ok=True)
        files = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=True)
        if kind == "tar":
            with tarfile.open(archive, "w") as tar:
                for path in files:
                    tar.add(path, f"./{path.relative_to(folder.parent)}")
        else:
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
                for path in files:
                    zipped.write(path, path.relative_to(folder.parent))
    return target


@pytest.mark.parametrize("kind", ["tar", "zip"])
@pytest.mark.parametrize(("dataset", "settings"), [("mead", {}), ("mead", {"views": []}), ("folder", {})])
def test_archives_are_listed_as_if_unpacked(tmp_path, kind, dataset, settings):
    names = [
        f"{actor}/{path}"
        for actor in ("W009", "M003")
        for number in ("001", "002")
        for path in (f"video/front/angry/level_1/{number}.mp4", f"video/top/angry/level_1/{number}.mp4",
                     f"audio/angry/level_1/{number}.m4a", "video/notes ü.txt", "video/._x.mp4")
    ]  # fmt: skip
    whole = touch(tmp_path / "whole", *names)
    small = packed(whole, tmp_path / "packed", kind)
    config = DatasetConfig(name=dataset, **settings)
    unpacked, found = find_clips(config, whole), find_clips(config, small)

    def without_files(clips):
        return [replace(clip, path=None, audio=clip.audio and clip.audio.suffix) for clip in clips]

    assert without_files(found.clips) == without_files(unpacked.clips)
    assert found.ignored == unpacked.ignored
    assert found.notes == [*unpacked.notes, "4 archives are read in place, without unpacking"]
    video = found.clips[0].path
    assert video.relative_to(small / "M003" / f"video.{kind}").name == "001.mp4"


def test_what_is_unpacked_already_is_not_listed_again(tmp_path):
    source = touch(tmp_path / "a", "M003/video/front/angry/level_1/001.mp4", "M003/video/front/angry/level_1/002.mp4")
    packed(source, source, "tar")
    (source / "M003/video/front/angry/level_1/002.mp4").unlink()
    found = find_clips(DatasetConfig(name="mead"), source)
    paths = [clip.path.relative_to(source / "M003").parts[0] for clip in found.clips]
    assert paths == ["video", "video.tar"]
    assert found.ignored["files of archives that are there unpacked, or in another archive"] == 1


def test_a_hostile_archive_has_a_line_for_each_problem(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("../talk.mp4", "talk.mp4", "../notes.txt", "link.mp4", "link.mp4"):
            header = tarfile.TarInfo(name)
            if name == "link.mp4":
                header.type, header.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(header)
    (tmp_path / "b.zip").write_bytes(b"no archive")
    os.mkfifo(tmp_path / "c.tar")
    clips = find_clips(DatasetConfig(name="folder"), tmp_path).clips
    assert {clip.name: clip.problem_detail.split(";")[0] for clip in clips if clip.problem} == {
        "a.tar/../talk.mp4": "a.tar/../talk.mp4 has a path that leads out of the archive",
        "a.tar/link.mp4": "a.tar/link.mp4 is a link to '/etc/passwd'",
        "b.zip": "b.zip is damaged or cut short (File is not a zip file)",
    }
    assert [clip.name for clip in clips if not clip.problem] == ["talk.mp4"]


def test_archives_in_archives_are_to_be_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "M003.zip", "w") as outer:
        outer.writestr("M003/video.tar", b"")
    with pytest.raises(LayoutError, match=r"1 archives are compressed as a whole or hold archives.*unzip -q"):
        find_clips(DatasetConfig(name="mead"), tmp_path)
