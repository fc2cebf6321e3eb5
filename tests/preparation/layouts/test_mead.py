"""Layouts of ``mead``: parsed paths, sound files and reported problems."""

from itertools import product
from pathlib import Path, PurePosixPath

import pytest

from configs.preparation import DatasetConfig
from datamodules.splits.clip_names import EMOTIONS, MeadSentence, mead_sentence
from preparation.clip_source import Reason
from preparation.layouts import LayoutError, find_clips
from preparation.layouts.listing import Entry
from preparation.layouts.mead import VIEWS, parse
from tests.helpers.files import touch

LAYOUTS = [
    "{actor}/video/{view}/{emotion}/level_{level}/{number:03d}.mp4",
    "MEAD/Part0/{actor}/video/{view}/{emotion}/level_{level}/{number:03d}.MP4",
    "{actor}/{view}/{emotion}/level_{level}/{number:03d}.mp4",
    "{actor}/{view}/{emotion}/level_{level}/{actor}_{view}_{emotion}_level_{level}_{number:03d}.mp4",
    "{actor}_{view}_{emotion}_level{level}_{number:03d}.mp4",
    "{actor}_{view}_{emotion}_L{level}_{number:03d}.mp4",
    "{actor}#{view}#{emotion}#level_{level}#{number:03d}.mp4",
    "{actor}/video/{view}/{emotion}/level_{level}/{number:03d}_25fps.mp4",
    "{actor}/{view}/{emotion}/level_{level}/{number:03d}_crop.mp4",
    "my copy (1)/{actor}-{view}-{emotion}-{level}-{number:03d}.mp4",
]


def find(source: Path, **settings):
    return find_clips(DatasetConfig(name="mead", **settings), source)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_parsed_alike(layout):
    for emotion, view, level in product(EMOTIONS, VIEWS, (1, 2, 3)):
        if emotion == "neutral" and level > 1:
            continue
        path = layout.format(actor="W015", view=view, emotion=emotion, level=level, number=7)
        name = parse(Entry(Path(path), PurePosixPath(path)).original)
        assert name.sentence == MeadSentence("W015", emotion, level, 7)
        assert name.view == view
        assert mead_sentence(name.key) == name.sentence


@pytest.mark.parametrize(
    ("path", "emotion", "level", "number"),
    [
        ("M003/angry/level_1/001.mp4", "angry", 1, 1),
        ("M003#angry#level_1#001.mp4", "angry", 1, 1),
        ("M003_angry_3_001.mp4", "angry", 3, 1),
        ("0001_M003_ang_3_012.mp4", "angry", 3, 12),
        ("M003/happiness/2/58.mp4", "happy", 2, 58),
        ("m003_Surprise_level2_004.mp4", "surprised", 2, 4),
        ("M003_fearful_l3_004.mp4", "fear", 3, 4),
        ("M003/disgust/level_1/001.mp4", "disgusted", 1, 1),
        ("M003_neutral_040.mp4", "neutral", 1, 40),
    ],
)
def test_paths_without_a_camera_and_aliases_of_emotions(path, emotion, level, number):
    name = parse(PurePosixPath(path))
    assert name.sentence == MeadSentence("M003", emotion, level, number)
    assert name.view is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("holiday.mp4", "no actor"),
        ("M003/video/front/001.mp4", "no emotion"),
        ("M003/video/front/angry/001.mp4", "no level"),
        ("M003/video/front/angry/level_1.mp4", "one sentence number"),
        ("M003/video/front/angry/level_4/001.mp4", "'level'"),
        ("M003/video/front/angry/level_1/001 (1).mp4", "'(1)'"),
        ("M003/video/behind/angry/level_1/001.mp4", "'behind'"),
        ("M003/video/front/angry/level_1/M005_front_angry_level_1_001.mp4", "two different actors, M003 and M005"),
        ("M003/video/front/angry/level_1/M003_front_happy_level_1_001.mp4", "two different emotions"),
        ("M003/video/front/neutral/level_2/001.mp4", "neutral has level 1 only"),
    ],
)
def test_unknown_paths_are_reported_with_examples(tmp_path, path, message):
    touch(tmp_path, path)
    (clip,) = find(tmp_path).clips
    assert clip.problem == Reason.UNKNOWN_NAME
    assert message in clip.problem_detail
    assert "M003/video/front/angry/level_1/001.mp4" in clip.problem_detail


def test_sound_files_of_the_published_layout(tmp_path):
    for view, sentence in product(("front", "left_30"), ("angry/level_1/001", "sad/level_3/002")):
        touch(tmp_path, f"Part0/M005/video/{view}/{sentence}.mp4")
    touch(tmp_path, *(f"Part0/{actor}/audio/angry/level_1/001.m4a" for actor in ("M005", "M007")))
    found = find(tmp_path)
    sound = tmp_path / "Part0/M005/audio/angry/level_1/001.m4a"
    assert {clip.key: clip.audio for clip in found.clips} == {
        "M005_front_angry_level_1_001": sound,
        "M005_left_30_angry_level_1_001": sound,
        "M005_front_sad_level_3_002": None,
        "M005_left_30_sad_level_3_002": None,
    }
    assert found.ignored["sound files without a video"] == 1


def test_nearest_sound_of_the_same_camera_is_used(tmp_path):
    touch(tmp_path, "copy/M005_front_angry_level_1_001.mp4", "copy/M005_top_angry_level_1_001.wav")
    copy = "copy/M005_front_angry_level_1_001"
    for nearer in ("M005/audio/angry/level_1/001.m4a", f"{copy}.wav", f"{copy}.m4a"):
        touch(tmp_path, nearer)
        assert find(tmp_path).clips[0].audio == tmp_path / nearer


def test_clips_of_other_cameras_are_counted(tmp_path):
    touch(tmp_path, *(f"W017/video/{view}/angry/level_1/{n:03d}.mp4" for view in ("down", "top") for n in (1, 2)))
    touch(tmp_path, "W017/audio/angry/level_1/001.m4a", "W011/video/front/angry/level_1/001.mp4")
    touch(tmp_path, "W011#angry#level_1#002.mp4")
    found = find(tmp_path, views=["front"])
    assert [clip.key for clip in found.clips] == ["W011_angry_level_1_002", "W011_front_angry_level_1_001"]
    assert found.ignored["clips of camera down, not in dataset.views"] == 2
    assert found.ignored["clips of camera top, not in dataset.views"] == 2
    assert "sound files without a video" not in found.ignored
    assert any(note.startswith("W017") and "'down'" in note for note in found.notes)
    assert any("1 clips without a camera" in note for note in found.notes)
    with pytest.raises(LayoutError, match=r"no camera left; it has front, down, top, left_30"):
        find(tmp_path, views=["left"])


def test_second_copy_of_a_clip_is_a_duplicate(tmp_path):
    touch(tmp_path, "M005/front/angry/level_1/001.mp4", "M005_front_angry_level1_001.mp4", "M005_front_angry_1_001.avi")
    clips = find(tmp_path).clips
    assert [clip.problem for clip in clips].count(None) == 1
    assert [clip.problem for clip in clips].count(Reason.DUPLICATE) == 2
    assert len({clip.key for clip in clips}) == 3


def test_known_defects_are_noted(tmp_path):
    touch(tmp_path, "M034/video/front/fear/level_3/028.mp4", "M034/video/front/fear/level_3/027.mp4")
    touch(tmp_path, "M003/video/front/fear/level_3/028.mp4")
    found = find(tmp_path)
    noted = {clip.key: clip.notes for clip in found.clips if clip.notes}
    assert list(noted) == ["M034_front_fear_level_3_028"]
    assert "17 s" in noted["M034_front_fear_level_3_028"][0]
    assert any(note.startswith("M003") for note in found.notes)


def test_splits(tmp_path):
    for actor in ("M003", "M005", "M028", "W036"):
        numbers = (*range(1, 31), 57) if actor == "M005" else range(1, 31)
        touch(tmp_path, *(f"{actor}/front/angry/level_2/{number:03d}.mp4" for number in numbers))
        touch(tmp_path, *(f"{actor}/front/neutral/level_1/{number:03d}.mp4" for number in range(1, 41)))
    by_person = {clip.speaker: clip.split for clip in find(tmp_path).clips}
    assert by_person == {"M003": "test", "M005": "train", "M028": "val", "W036": "val"}
    official = find(tmp_path, split="official").clips
    test = {clip.key for clip in official if clip.split == "test" and clip.speaker == "M005"}
    angry = {f"M005_front_angry_level_2_{number:03d}" for number in (26, 27, 28, 29, 30, 57)}  # the last six
    assert test == angry | {f"M005_front_neutral_level_1_{number:03d}" for number in range(31, 41)}
    assert {clip.split for clip in find(tmp_path, split="train").clips} == {"train"}


def test_real_clips(assets):
    found = find(assets / "data/mead_style")
    assert len(found.clips) == 16
    assert {clip.speaker: clip.split for clip in found.clips} == {"M030": "test", "W011": "train"}
    assert {clip.emotion for clip in found.clips} == set(EMOTIONS)
    assert {clip.level for clip in found.clips if clip.emotion == "neutral"} == {1}
    assert {clip.level for clip in found.clips if clip.emotion != "neutral"} == {3}
    assert {clip.view for clip in found.clips} == {"front"}
    assert all(clip.problem is None and clip.path.is_file() for clip in found.clips)
    assert found.ignored == {"other files (.mat)": 16}
