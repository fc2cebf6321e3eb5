"""Layout ``hdtf``: names of cut clips, and downloaded videos with annotation files."""

from pathlib import Path

import pytest

from configs.preparation import DatasetConfig
from preparation.clip_source import ClipSource, Reason, Rejected
from preparation.layouts import LayoutError, find_clips
from preparation.layouts.annotations import read_annotations
from tests.helpers.files import touch

# HDTF's format: file names such as RD_annotion_time.txt (sic), crops as left width top height, a byte order mark.
TIMES = "AnnTest0.mp4 00:10-01:30 61:05-62:00\r\nBob-Example.mp4 00:00-00:30 00:40-00:45\nNoCrop.mp4 00:01-00:20\n"
CROPS = (
    "AnnTest0_0.mp4 100 400 0 400\nAnnTest0_1.mp4 120 360 10 360\nBob-Example_0.mp4 0 720 0 720\nLost_0.mp4 1 2 3 4\n"
)
HEIGHTS = "AnnTest0.mp4 720\nBob-Example.mp4 700\nNoCrop.mp4 1080\n"
ADDRESSES = (
    "\ufeffAnnTest0 https://www.youtube.com/watch?v=abcdefghijk\n"
    "Bob-Example https://www.youtube.com/watch?v=-BCDEFGHIJ_&t=6s\n"
    "NoCrop https://youtu.be/AAAAAAAAAAA\nNoSpan https://www.youtube.com/watch?v=zzzzzzzzzzz\n"
)


def annotate(tmp_path: Path, times=TIMES, crops=CROPS, heights=HEIGHTS, addresses=ADDRESSES) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    kinds = {"annotion_time": times, "crop_wh": crops, "resolution": heights, "video_url": addresses}
    for kind, text in kinds.items():
        if text is not None:
            (folder / f"WDA_{kind}.txt").write_bytes(text.encode())
    return folder


def cut(tmp_path: Path, **annotations: str) -> dict[str, ClipSource]:
    """Returns key -> clip for the videos in raw/ with these annotation files."""
    return {clip.key: clip for clip in find(tmp_path / "raw", annotate(tmp_path, **annotations)).clips}


def find(source: Path, annotations: Path | None = None, **settings):
    chosen = None if annotations is None else str(annotations)
    return find_clips(DatasetConfig(name="hdtf", annotations=chosen, **settings), source)


@pytest.mark.parametrize(
    ("name", "key", "speaker"),
    [
        ("WDA_AmyKlobuchar1_002.mp4", "WDA_AmyKlobuchar1_002", "AmyKlobuchar"),
        ("WDA_AmyKlobuchar0_0.mp4", "WDA_AmyKlobuchar0_000", "AmyKlobuchar"),
        ("WRA_CathyMcMorrisRodgers2_000.MP4", "WRA_CathyMcMorrisRodgers2_000", "CathyMcMorrisRodgers"),
        ("WDA_LucilleRoybal-Allard_000.mkv", "WDA_LucilleRoybal-Allard_000", "LucilleRoybal-Allard"),
        ("RD_Radio11_001.mp4", "RD_Radio11_001", "Radio11"),
        ("Radio34_9.mp4", "RD_Radio34_009", "Radio34"),
        ("AmyKlobuchar1_1.mp4", "AmyKlobuchar1_001", "AmyKlobuchar"),
        ("hdtf_RD_Radio10_0_clip_0.mp4", "RD_Radio10_000_clip_0", "Radio10"),
        ("WDA_RonWyden1_000#7.mp4", "WDA_RonWyden1_000_clip_7", "RonWyden"),
        ("WDA_WhipJimClyburn_000.mp4", "WDA_WhipJimClyburn_000", "JamesClyburn"),
        ("hdtf_WDA_AOC_000.mp4", "WDA_AOC_000", "AlexandriaOcasioCortez"),
        ("WDA_AmyKlobuchar1_002_25fps.mp4", "WDA_AmyKlobuchar1_002", "AmyKlobuchar"),
        ("WDA_AmyKlobuchar1_002-cropped_25fps.mp4", "WDA_AmyKlobuchar1_002", "AmyKlobuchar"),
        ("RD_Radio34_002_512.mp4", "RD_Radio34_002", "Radio34"),
        ("RD_Radio34_002_7_256x256.mp4", "RD_Radio34_002_clip_7", "Radio34"),
    ],
)
def test_names_of_cut_clips(tmp_path, name, key, speaker):
    touch(tmp_path, f"my clips!/{name}")
    (clip,) = find(tmp_path).clips
    assert (clip.key, clip.speaker, clip.problem) == (key, speaker, None)
    assert clip.name == f"my clips!/{name}"


@pytest.mark.parametrize("name", ["latentsync_demo1.mp4", "holiday_001.mp4", "WDA_AmyKlobuchar1_2_3_4.mp4", "001.mp4"])
def test_unknown_names_are_reported(tmp_path, name):
    touch(tmp_path, name)
    (clip,) = find(tmp_path).clips
    assert clip.problem == Reason.UNKNOWN_NAME
    assert "WDA_AmyKlobuchar1_002.mp4" in clip.problem_detail


def test_uncut_videos_without_clips_need_annotations(tmp_path):
    touch(tmp_path, "_videos_raw/WDA_AdamSchiff.mp4", "_videos_raw/WDA_TimWalz.mp4", "WDA_AdamSchiff_000.mp4")
    found = find(tmp_path)
    assert {clip.name: clip.problem for clip in found.clips} == {
        "WDA_AdamSchiff_000.mp4": None,
        "_videos_raw/WDA_TimWalz.mp4": Reason.UNKNOWN_NAME,
    }
    assert "dataset.annotations" in next(clip.problem_detail for clip in found.clips if clip.problem)
    assert found.ignored == {"uncut videos whose clips exist, too": 1}


def test_second_copy_of_a_clip_is_a_duplicate(tmp_path):
    touch(tmp_path, "a/RD_Radio1_000.mp4", "b/RD_Radio1_0.mp4")
    assert sorted(str(clip.problem) for clip in find(tmp_path).clips) == ["None", "duplicate"]


def test_downloaded_videos_are_cut_and_cropped(tmp_path):
    touch(tmp_path / "raw", "WDA_AnnTest0.webm", "A talk (1) [-BCDEFGHIJ_].mkv", "AAAAAAAAAAA.mp4", "cat.mp4")
    touch(tmp_path / "raw", "old/WDA_AnnTest0_000.mp4")
    found = find(tmp_path / "raw", annotate(tmp_path))
    clips = {clip.key: clip for clip in found.clips}
    first, late, bob = clips["WDA_AnnTest0_000"], clips["WDA_AnnTest0_001"], clips["WDA_Bob-Example_000"]
    assert (first.start, first.end, first.crop, first.crop_height) == (10, 90, (100, 0, 400, 400), 720)
    assert (late.start, late.end, late.crop) == (3665, 3720, (120, 10, 360, 360))
    assert first.path == late.path == tmp_path / "raw/WDA_AnnTest0.webm"
    assert (first.speaker, first.problem, bob.problem) == ("AnnTest", None, Reason.BAD_ANNOTATION)
    assert "ends at row 720, below the reference picture of 700 rows" in bob.problem_detail
    assert bob.path.name == "A talk (1) [-BCDEFGHIJ_].mkv"
    assert clips["WDA_Bob-Example_001"].problem == Reason.MISSING_CROP
    assert clips["WDA_NoCrop_000"].problem == Reason.MISSING_CROP
    assert [clip.name for clip in found.clips if clip.problem == Reason.UNKNOWN_NAME] == ["cat.mp4"]
    assert found.ignored == {"clips cut earlier (the annotations cut the uncut videos)": 1}
    assert found.notes == [
        "1 crops without a span in the annotation files",
        "1 addresses without a span in the annotation files",
    ]


def test_each_missing_video_is_reported(tmp_path):
    touch(tmp_path / "raw", "AnnTest0.mp4", "anntest0.mkv")
    clips = cut(tmp_path)
    missing = [key for key, clip in clips.items() if clip.problem == Reason.MISSING_VIDEO]
    assert missing == ["WDA_Bob-Example_000", "WDA_Bob-Example_001", "WDA_NoCrop_000"]
    assert "YouTube -BCDEFGHIJ_" in clips["WDA_Bob-Example_000"].problem_detail
    assert clips["WDA_AnnTest0_000"].path.name == "AnnTest0.mp4"
    assert clips["WDA_AnnTest0_000"].notes == ("also exists as anntest0.mkv, which was not used",)


@pytest.mark.parametrize(
    ("changed", "key", "message"),
    [
        ({"times": TIMES.replace("00:10-01:30", "00:10..01:30")}, "WDA_AnnTest0_000", "'00:10..01:30' is not a span"),
        ({"times": TIMES.replace("00:10-01:30", "01:30-00:10")}, "WDA_AnnTest0_000", "is not a span"),
        ({"crops": CROPS.replace("100 400 0 400", "100 400 0")}, "WDA_AnnTest0_000", "expected four whole numbers"),
        ({"crops": CROPS.replace("100 400 0 400", "100 x 0 400")}, "WDA_AnnTest0_000", "'100 x 0 400'"),
        ({"crops": CROPS.replace("100 400 0 400", "100 0 0 400")}, "WDA_AnnTest0_000", "0x400 pixels"),
        ({"heights": HEIGHTS.replace("AnnTest0.mp4 720", "AnnTest0.mp4 0")}, "WDA_AnnTest0_000", "resolution is '0'"),
        ({"heights": HEIGHTS.replace("AnnTest0.mp4 720\n", "")}, "WDA_AnnTest0_001", "resolution is 'missing'"),
    ],
)
def test_malformed_entries_reject_only_their_clip(tmp_path, changed, key, message):
    touch(tmp_path / "raw", "AnnTest0.mp4", "Bob-Example.mp4", "NoCrop.mp4")
    clips = cut(tmp_path, **changed)
    assert clips[key].problem == Reason.BAD_ANNOTATION
    assert message in clips[key].problem_detail
    assert len(clips) == 5


def test_malformed_lines_are_reported_with_their_number(tmp_path):
    touch(tmp_path / "raw", "AnnTest0.mp4")
    folder = annotate(tmp_path, times=TIMES + "\nAlone.mp4\nAnnTest0.mp4 00:00-00:10\n")
    bad = [clip for clip in find(tmp_path / "raw", folder).clips if clip.name.startswith("WDA_annotion_time.txt")]
    details = {clip.name[-6:]: clip.problem_detail for clip in bad if clip.problem == Reason.BAD_ANNOTATION}
    assert details.keys() == {"line 5", "line 6"}
    assert "has only a name" in details["line 5"]
    assert "a second time" in details["line 6"]


def test_recording_with_two_names_is_used_once(tmp_path):
    touch(tmp_path / "raw", "abcdefghijk.mp4")
    heights = HEIGHTS.replace("Bob-Example.mp4 700", "Bob-Example.mp4 720")
    clips = cut(tmp_path, addresses=ADDRESSES.replace("-BCDEFGHIJ_", "abcdefghijk"), heights=heights)
    assert clips["WDA_Bob-Example_000"].problem == Reason.DUPLICATE  # 0-30 s lies in 10-90 s
    assert "WDA_AnnTest0_000" in clips["WDA_Bob-Example_000"].problem_detail
    assert clips["WDA_AnnTest0_000"].problem is None


@pytest.mark.parametrize("kind", ["crops", "heights"])
def test_missing_annotation_file_is_refused(tmp_path, kind):
    touch(tmp_path / "raw", "AnnTest0.mp4")
    with pytest.raises(LayoutError, match=r"WDA_(crop_wh|resolution)\.txt: no such file"):
        find(tmp_path / "raw", annotate(tmp_path, **{kind: None}))
    with pytest.raises(LayoutError, match="give the folder HDTF_dataset"):
        find(tmp_path / "raw", tmp_path / "raw")


def test_addresses_are_optional(tmp_path):
    assert len(read_annotations(annotate(tmp_path, addresses=None)).segments) == 5


def test_crops_are_scaled_to_the_resolution_of_the_video(tmp_path):
    clip = ClipSource("a", tmp_path, "a", "a", "train", crop=(100, 0, 400, 400), crop_height=720)
    assert clip.crop_in(1280, 720) == (100, 0, 400, 400)
    assert clip.crop_in(1920, 1080) == (150, 0, 600, 600)
    assert clip.crop_in(640, 360) == (50, 0, 200, 200)
    with pytest.raises(Rejected, match="does not fit the 512x720 picture"):
        ClipSource("a", tmp_path, "a", "a", "train", crop=(400, 0, 400, 400), crop_height=720).crop_in(512, 720)
    assert ClipSource("a", tmp_path, "a", "a", "train").crop_in(1280, 720) is None


def test_peer_split_is_by_clip(tmp_path):
    # EDTalk's lists have the two clips of this recording in different splits.
    touch(tmp_path, "RD_Radio11_000.mp4", "RD_Radio11_1.mp4", "WDA_SomeoneElse_000.mp4")
    splits = {clip.key: clip.split for clip in find(tmp_path, split="peer").clips}
    assert splits == {"RD_Radio11_000": "train", "RD_Radio11_001": "test", "WDA_SomeoneElse_000": "train"}


def test_real_clips(assets):
    found = find(assets / "data/video")
    named = {clip.key: clip.speaker for clip in found.clips if clip.problem is None}
    assert named == {
        "RD_Radio10_000_clip_0": "Radio10",
        "WDA_AOC_000": "AlexandriaOcasioCortez",
        "WDA_KatieHill_000": "KatieHill",
    }
    assert sum(clip.problem == Reason.UNKNOWN_NAME for clip in found.clips) == 4
