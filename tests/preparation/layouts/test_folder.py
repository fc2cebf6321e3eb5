"""Layout ``folder``: speakers from folder and file names."""

import pytest

from configs.preparation import DatasetConfig
from preparation.layouts import LayoutError, find_clips
from runtime.registry import UnknownName
from tests.helpers.files import touch


@pytest.mark.parametrize(
    ("path", "speaker"),
    [
        ("ann/monday.mp4", "ann"),
        ("news/Jürgen Weiß/take 2.mov", "Jürgen Weiß"),
        ("interview_003.mp4", "interview"),
        ("interview 3 (1).mp4", "interview"),
        ("hdtf_RD_Radio10_0_clip_0.mp4", "hdtf_RD_Radio10"),
        ("王小明-02.mp4", "王小明"),
        ("face4.mp4", "face4"),
        ("001.mp4", "001"),
        ("don't be sad!.mp4", "don't be sad!"),
    ],
)
def test_speakers(tmp_path, path, speaker):
    touch(tmp_path, path)
    (clip,) = find_clips(DatasetConfig(name="folder"), tmp_path).clips
    assert (clip.speaker, clip.name, clip.split, clip.problem) == (speaker, path, "train", None)
    assert clip.path == tmp_path / path


def test_person_split_keeps_speakers_together(tmp_path):
    touch(tmp_path, *(f"speaker {person}/{clip}.mp4" for person in range(60) for clip in range(3)))
    clips = find_clips(DatasetConfig(name="folder", split="person"), tmp_path).clips
    sides = {(clip.speaker, clip.split) for clip in clips}
    assert len(sides) == 60  # one split for each speaker
    assert {side for _, side in sides} == {"train", "val", "test"}


def test_folder_without_videos_is_refused(tmp_path):
    touch(tmp_path, "notes.txt", "talk.wav")
    with pytest.raises(LayoutError, match=r"has no videos \(.*\.mp4.*\); found .*1 other files \(\.txt\)"):
        find_clips(DatasetConfig(name="folder"), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "celebv"}, "dataset.name=celebv: there is no such dataset"),
        ({"name": "folder", "split": "official"}, "choose one of emotivetalk, person, time, train"),
        ({"name": "folder", "annotations": "x"}, "only hdtf and celebv_hq have annotation files"),
    ],
)
def test_unsuitable_settings_are_refused(tmp_path, settings, message):
    touch(tmp_path, "a.mp4")
    with pytest.raises((LayoutError, UnknownName), match=message):
        find_clips(DatasetConfig(**settings), tmp_path)


def test_real_clips(assets):
    found = find_clips(DatasetConfig(name="folder"), assets / "data/video")
    assert len(found.clips) == len(list((assets / "data/video").glob("*.mp4"))) == len({c.speaker for c in found.clips})
    assert [clip.key for clip in found.clips] == sorted(clip.path.stem for clip in found.clips)


@pytest.mark.parametrize(
    ("path", "pattern", "speaker"),
    [
        ("id00012/21Uxsk56VDQ/00001.mp4", "1", "id00012"),
        ("id00012/21Uxsk56VDQ/00001.mp4", "2", "21Uxsk56VDQ"),
        ("train/1lSejjfNHpw_0075_S0_E1.mp4", "/(.{11})_", "1lSejjfNHpw"),
        ("videos/0001.mp4", r"\d+(?=\.mp4$)", "0001"),
    ],
)
def test_a_pattern_or_a_depth_says_who_speaks(tmp_path, path, pattern, speaker):
    touch(tmp_path, path)
    (clip,) = find_clips(DatasetConfig(name="folder", speaker=pattern), tmp_path).clips
    assert clip.speaker == speaker


@pytest.mark.parametrize("pattern", ["0", "3", "(", "^x"])
def test_a_pattern_that_names_no_speaker_is_one_line(tmp_path, pattern):
    touch(tmp_path, "ann/monday.mp4")
    with pytest.raises(LayoutError, match=r"dataset\.speaker=.*expected"):
        find_clips(DatasetConfig(name="folder", speaker=pattern), tmp_path)


def test_a_sound_file_beside_a_video_is_its_sound(tmp_path):
    touch(tmp_path, "ann/monday.mp4", "ann/monday.wav", "ann/tuesday.mp4", "other/tuesday.wav")
    found = find_clips(DatasetConfig(name="folder"), tmp_path)
    assert [clip.audio for clip in found.clips] == [tmp_path / "ann/monday.wav", None]
    assert found.ignored == {"sound files without a video": 1}
