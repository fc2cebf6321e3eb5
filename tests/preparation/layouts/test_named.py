"""Datasets whose paths name speaker and clip: keys, speakers, sound, emotions, and names of other files."""

import json
import subprocess
import tarfile

import pytest

from configs.preparation import DatasetConfig
from preparation.clip_source import Reason
from preparation.layouts import LayoutError, find_clips
from tests.helpers.files import touch

PATHS = [
    ("voxceleb2", "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "id00012_21Uxsk56VDQ_00001", "id00012"),
    ("voxceleb2", "id09272/-AbCdEfGhIj/00110.mkv", "id09272_-AbCdEfGhIj_00110", "id09272"),
    ("celebv_hq", "35666/M2Ohb0FAaJU_1.mp4", "M2Ohb0FAaJU_1", "M2Ohb0FAaJU"),
    ("celebv_hq", "_0tf2n3rlJU_0_25fps.mp4", "_0tf2n3rlJU_0", "_0tf2n3rlJU"),
    (
        "talkinghead_1kh", "train/cropped_clips/--Y9imYnfBw_0000_S0_E271_L504_T63_R792_B351.mp4",
        "v--Y9imYnfBw_0000_S0_E271_L504_T63_R792_B351", "--Y9imYnfBw",
    ),
    ("vfhq", "Clip+_0tf2n3rlJU+P0+C1+F5319-5428.mp4", "_0tf2n3rlJU_P0_C1_F5319-5428", "_0tf2n3rlJU_P0"),
    ("vfhq", "cropped/Clip+_0tf2n3rlJU+P2+C0.mp4", "_0tf2n3rlJU_P2_C0", "_0tf2n3rlJU_P2"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "key", "speaker"), PATHS)
def test_a_path_names_clip_and_speaker(tmp_path, name, path, key, speaker):
    touch(tmp_path, path)
    (clip,) = find_clips(DatasetConfig(name=name), tmp_path).clips
    assert (clip.key, clip.speaker, clip.problem, clip.audio) == (key, speaker, None, None)
    assert clip.path == tmp_path / path


@pytest.mark.parametrize("name", ["voxceleb2", "celebv_hq", "talkinghead_1kh", "vfhq"])
def test_other_names_are_reported_with_an_example(tmp_path, name):
    touch(tmp_path, "holiday.mp4", "id0001/x/00001.mp4", "Clip+short+P0+C0.mp4")
    clips = find_clips(DatasetConfig(name=name), tmp_path).clips
    assert {clip.problem for clip in clips} == {Reason.UNKNOWN_NAME}
    assert all(clip.problem_detail.startswith("expected e.g. ") for clip in clips)


def test_sound_of_another_folder_belongs_to_its_clip(tmp_path):
    touch(tmp_path, "mp4/id00012/21Uxsk56VDQ/00001.mp4", "mp4/id00012/21Uxsk56VDQ/00002.mp4")
    touch(tmp_path, "aac/id00012/21Uxsk56VDQ/00001.m4a", "aac/id00012/21Uxsk56VDQ/00003.m4a")
    found = find_clips(DatasetConfig(name="voxceleb2"), tmp_path)
    assert [clip.audio for clip in found.clips] == [tmp_path / "aac/id00012/21Uxsk56VDQ/00001.m4a", None]
    assert found.ignored == {"sound files without a video": 1}


def test_equal_clips_and_uncut_videos_are_no_clips(tmp_path):
    touch(tmp_path, "a/M2Ohb0FAaJU_1.mp4", "b/M2Ohb0FAaJU_1.mp4", "raw/M2Ohb0FAaJU.mp4")
    found = find_clips(DatasetConfig(name="celebv_hq"), tmp_path)
    assert sorted(str(clip.problem) for clip in found.clips) == ["None", "duplicate"]
    assert found.ignored == {"uncut videos": 1}


def test_speakers_are_in_one_split(tmp_path):
    touch(tmp_path, *(f"id{person:05d}/21Uxsk56VDQ/{clip:05d}.mp4" for person in range(60) for clip in range(3)))
    sides = {(clip.speaker, clip.split) for clip in find_clips(DatasetConfig(name="voxceleb2"), tmp_path).clips}
    assert len(sides) == 60
    assert {side for _, side in sides} == {"train", "val", "test"}


def test_emotions_of_celebv_hq(tmp_path):
    clips = {
        "M2Ohb0FAaJU_1": {"attributes": {"emotion": {"sep_flag": False, "labels": "anger"}}},
        "M2Ohb0FAaJU_2": {"attributes": {"emotion": {"sep_flag": True, "labels": [{"emotion": "happy"}]}}},
    }
    path = tmp_path / "celebvhq_info.json"
    path.write_text(json.dumps({"clips": clips}))
    touch(tmp_path / "videos", "M2Ohb0FAaJU_1.mp4", "M2Ohb0FAaJU_2.mp4", "M2Ohb0FAaJU_3.mp4")
    config = DatasetConfig(name="celebv_hq", annotations=str(path))
    assert [clip.emotion for clip in find_clips(config, tmp_path / "videos").clips] == ["angry", None, None]
    for text, words in (
        ("[]", "expected celebvhq_info.json"),
        ("{", "expected celebvhq_info.json"),
        (None, "cannot be read"),
    ):
        path.unlink()
        if text is not None:
            path.write_text(text)
        with pytest.raises(LayoutError, match=rf"dataset.annotations=.*{words}"):
            find_clips(config, tmp_path / "videos")


def test_archives_that_are_not_read_are_named(tmp_path):
    """The command that the message gives unpacks them."""
    source = tmp_path / "it's MEAD"
    files = {"video": "video/front/angry/level_1/001.mp4", "audio": "audio/angry/level_1/001.m4a"}
    for actor in ("M003", "W009"):
        for name, file in files.items():
            touch(tmp_path / actor, file)
            (source / actor).mkdir(parents=True, exist_ok=True)
            with tarfile.open(source / actor / f"{name}.tgz", "w:gz") as tar:
                tar.add(tmp_path / actor / file, file)
    with pytest.raises(
        LayoutError, match=r"4 archives are compressed .*, the first is M003/audio.tgz; unpack"
    ) as caught:
        find_clips(DatasetConfig(name="mead"), source)
    subprocess.run(str(caught.value).partition("in its folder: ")[2], shell=True, check=True)
    found = find_clips(DatasetConfig(name="mead"), source)
    assert [(clip.speaker, clip.problem, clip.audio is None) for clip in found.clips] == [
        ("M003", None, False), ("W009", None, False),
    ]  # fmt: skip
    assert "4 archives are compressed" in " ".join(found.notes)
