"""Written datasets of synthetic speakers: MEAD's and HDTF's layout, sidecar files, determinism, resuming."""

from __future__ import annotations

import csv
import socket
import subprocess
from collections import Counter

import av
import numpy as np
import pytest

from media import read_sound
from preparation.synthetic import EMOTIONS, FACTOR_NAMES, identity, levels_of, render_clip, write_dataset
from preparation.synthetic.write import plan_clips
from runtime.ownership import ForeignFileError

SMALL = {"identities": 2, "clips_per_identity": 2, "seconds": 1.0, "size": 64, "seed": 3}


@pytest.fixture(scope="module")
def mead(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world (1) ü") / "mead"
    return folder, write_dataset(folder, layout="mead", **SMALL)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def decoded(path, kind):
    form = {"format": "rgb24"} if kind == "video" else {}
    with av.open(str(path)) as container:
        return [frame.to_ndarray(**form) for frame in container.decode(**{kind: 0})]


def test_mead_layout(mead):
    folder, videos = mead
    assert [str(video.relative_to(folder)) for video in videos] == [
        "M100/video/front/angry/level_1/001.mp4",
        "M100/video/front/contempt/level_2/001.mp4",
        "W101/video/front/contempt/level_3/001.mp4",
        "W101/video/front/disgusted/level_1/001.mp4",
    ]
    assert len(contents(folder)) == 4 * 4 + 1  # video, sound, landmarks, factors; the manifest


def test_mead_videos_are_silent_and_sound_is_in_a_separate_file(mead):
    folder, videos = mead
    with av.open(str(videos[0])) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.average_rate, stream.frames, stream.width) == (25, 25, 64)
        assert not container.streams.audio
    sound = folder / "M100/audio/angry/level_1/001.m4a"
    with av.open(str(sound)) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.audio[0].rate == 48_000
    samples = np.concatenate(decoded(sound, "audio"), axis=1)[0]
    assert len(samples) == pytest.approx(48_000, abs=2048)
    assert 0.01 < np.abs(samples).max() < 1


def test_mead_sound_is_synchronous(mead):
    plan = plan_clips("mead", 2, 2, SMALL["seed"])[0]
    clip = render_clip(identity(plan.identity), plan.emotion, plan.level, plan.sentence_seed, 1.0, 64)
    stored_sound = read_sound(mead[0] / plan.audio)
    assert len(stored_sound) == len(clip.sound)
    correlation = {lag: float(stored_sound[400:-400] @ np.roll(clip.sound, lag)[400:-400]) for lag in range(-400, 401)}
    assert abs(max(correlation, key=correlation.get)) <= 1


def test_stored_frames_match_the_clip(mead):
    plan = plan_clips("mead", 2, 2, 3)[0]
    clip = render_clip(identity(plan.identity), plan.emotion, plan.level, plan.sentence_seed, 1.0, 64)
    for stored, drawn in zip(decoded(mead[1][0], "video"), clip.frames(), strict=True):
        assert np.abs(stored.astype(float) - drawn).mean() < 6  # H.264


def test_landmarks_are_stored_in_openface_format(mead):
    text = mead[1][0].with_suffix(".csv").read_text()
    assert text.startswith("frame, face_id, timestamp, confidence, success, x_0, x_1,")
    rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    assert [int(row["frame"]) for row in rows] == list(range(1, 26))
    assert [float(row["timestamp"]) for row in rows] == pytest.approx(np.arange(25) / 25, abs=1e-3)
    assert all(row["success"] == "1" for row in rows)
    # From top to bottom: eyes, nose, lower lip, chin; all inside the picture.
    for row in rows:
        assert 0 < float(row["y_37"]) < float(row["y_30"]) < float(row["y_57"]) < float(row["y_8"]) < 64
        assert float(row["x_36"]) < float(row["x_45"])


def test_factors_are_stored(mead):
    with np.load(mead[1][1].with_suffix(".factors.npz")) as stored:
        assert tuple(stored["names"]) == FACTOR_NAMES
        assert stored["values"].shape == (25, len(FACTOR_NAMES))
        assert stored["values"].dtype == np.float32
        assert stored["values"][0, FACTOR_NAMES.index("emotion")] == EMOTIONS.index("contempt")


@pytest.mark.slow
def test_hdtf_layout_has_sound_and_does_not_depend_on_workers(tmp_path):
    calls = []
    one = write_dataset(tmp_path / "one", layout="hdtf", **SMALL, progress=lambda: calls.append(1))
    write_dataset(tmp_path / "two", layout="hdtf", **SMALL, workers=2)
    assert [video.name for video in one] == [f"WDA_Synth{name}_00{n}.mp4" for name in ("Abel", "Bea") for n in (0, 1)]
    assert len(calls) == 4
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    samples = np.concatenate(decoded(one[0], "audio"), axis=1)[0]
    assert len(samples) == pytest.approx(16_000, abs=1024)
    assert np.abs(samples).max() > 0.01


@pytest.mark.slow
def test_interrupted_run_is_continued(mead, tmp_path):
    """Complete clips are kept, incomplete ones are written again, and the result equals that of a single run."""
    folder, videos = mead
    first = write_dataset(tmp_path, layout="mead", **{**SMALL, "identities": 1})
    kept = first[0].stat().st_mtime_ns
    first[1].unlink()  # as if killed before the video was renamed
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = f".{first[1].name}.{socket.gethostname()}-{ended.pid}-0badcafe.partial"
    (first[1].parent / left).write_bytes(b"half a video")
    calls = []
    write_dataset(tmp_path, layout="mead", **SMALL, progress=lambda: calls.append(1))
    assert first[0].stat().st_mtime_ns == kept
    assert len(calls) == len(videos)
    assert contents(tmp_path) == contents(folder)


def test_clip_without_landmarks_is_written_again(tmp_path):
    one = {**SMALL, "identities": 1, "clips_per_identity": 1}
    (video,) = write_dataset(tmp_path, layout="hdtf", **one)
    before = contents(tmp_path)
    video.with_suffix(".csv").unlink()
    write_dataset(tmp_path, layout="hdtf", **one)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("change", "message"), [({"seed": 4}, "seed is 3, expected 4"), ({"size": 128}, "size is 64")])
def test_folder_with_other_settings_is_refused(mead, change, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(mead[0], layout="mead", **{**SMALL, **change})


def test_a_folder_with_files_of_others_is_refused(tmp_path):
    (tmp_path / "W011").mkdir()
    with pytest.raises(ForeignFileError, match=rf"source={tmp_path}: .*W011 was not written by this program"):
        write_dataset(tmp_path, layout="mead", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["W011"]


@pytest.mark.parametrize("text", ["[1]", "7", "{"])
def test_a_manifest_of_others_is_refused(tmp_path, text):
    (tmp_path / "synthetic.json").write_text(text)
    with pytest.raises(ValueError, match=r"synthetic\.json: .*choose an empty folder"):
        write_dataset(tmp_path, layout="mead", **SMALL)
    assert (tmp_path / "synthetic.json").read_text() == text


@pytest.mark.parametrize(
    ("change", "message"), [({"layout": "flat"}, "layout='flat'"), ({"identities": 0}, "at least 1")]
)
def test_invalid_arguments_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_dataset(tmp_path / "none", **{"layout": "mead", **SMALL, **change})
    assert not (tmp_path / "none").exists()


def test_24_clips_cover_every_emotion_at_every_level():
    for layout in ("mead", "hdtf"):
        plans = plan_clips(layout, 3, 24, 0)
        for index in range(3):
            seen = Counter((plan.emotion, plan.level) for plan in plans if plan.identity == index)
            assert set(seen) == {(emotion, level) for emotion in EMOTIONS for level in levels_of(emotion)}
        assert len({plan.video for plan in plans}) == len({plan.sentence_seed for plan in plans}) == 72


def test_larger_dataset_contains_the_smaller_one():
    few, many = plan_clips("mead", 2, 5, 1), plan_clips("mead", 4, 24, 1)
    assert {(plan.video, plan.sentence_seed) for plan in few} <= {(plan.video, plan.sentence_seed) for plan in many}
