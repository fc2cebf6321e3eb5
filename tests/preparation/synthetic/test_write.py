"""Datasets on disk: MEAD's and HDTF's layout, the files beside the videos, determinism, resuming."""

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


def test_meads_layout(mead):
    folder, videos = mead
    assert [str(video.relative_to(folder)) for video in videos] == [
        "M100/video/front/angry/level_1/001.mp4",
        "M100/video/front/contempt/level_2/001.mp4",
        "W101/video/front/contempt/level_3/001.mp4",
        "W101/video/front/disgusted/level_1/001.mp4",
    ]
    assert len(contents(folder)) == 4 * 4 + 1  # video, sound, landmarks, factors; the manifest


def test_meads_videos_are_silent_and_their_sound_lies_beside(mead):
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


def test_meads_sound_is_heard_when_it_was_said(mead):
    plan = plan_clips("mead", 2, 2, SMALL["seed"])[0]
    clip = render_clip(identity(plan.identity), plan.emotion, plan.level, plan.sentence_seed, 1.0, 64)
    heard = read_sound(mead[0] / plan.audio)
    assert len(heard) == len(clip.sound)
    late = {lag: float(heard[400:-400] @ np.roll(clip.sound, lag)[400:-400]) for lag in range(-400, 401)}
    assert abs(max(late, key=late.get)) <= 1


def test_the_picture_on_disk_is_the_clip(mead):
    plan = plan_clips("mead", 2, 2, 3)[0]
    clip = render_clip(identity(plan.identity), plan.emotion, plan.level, plan.sentence_seed, 1.0, 64)
    for stored, drawn in zip(decoded(mead[1][0], "video"), clip.frames(), strict=True):
        assert np.abs(stored.astype(float) - drawn).mean() < 6  # H.264


def test_landmarks_are_a_csv_as_openface_writes_it(mead):
    text = mead[1][0].with_suffix(".csv").read_text()
    assert text.startswith("frame, face_id, timestamp, confidence, success, x_0, x_1,")
    rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    assert [int(row["frame"]) for row in rows] == list(range(1, 26))
    assert [float(row["timestamp"]) for row in rows] == pytest.approx(np.arange(25) / 25, abs=1e-3)
    assert all(row["success"] == "1" for row in rows)
    # The chin lies under the nose, which lies under the eyes; all in the picture.
    for row in rows:
        assert 0 < float(row["y_37"]) < float(row["y_30"]) < float(row["y_57"]) < float(row["y_8"]) < 64
        assert float(row["x_36"]) < float(row["x_45"])


def test_factors_lie_beside(mead):
    with np.load(mead[1][1].with_suffix(".factors.npz")) as stored:
        assert tuple(stored["names"]) == FACTOR_NAMES
        assert stored["values"].shape == (25, len(FACTOR_NAMES))
        assert stored["values"].dtype == np.float32
        assert stored["values"][0, FACTOR_NAMES.index("emotion")] == EMOTIONS.index("contempt")


@pytest.mark.slow
def test_hdtfs_layout_has_sound_and_equal_bytes_from_any_number_of_workers(tmp_path):
    reports = []
    one = write_dataset(tmp_path / "one", layout="hdtf", **SMALL, progress=lambda: reports.append(1))
    write_dataset(tmp_path / "two", layout="hdtf", **SMALL, workers=2)
    assert [video.name for video in one] == [f"WDA_Synth{name}_00{n}.mp4" for name in ("Abel", "Bea") for n in (0, 1)]
    assert len(reports) == 4
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    samples = np.concatenate(decoded(one[0], "audio"), axis=1)[0]
    assert len(samples) == pytest.approx(16_000, abs=1024)
    assert np.abs(samples).max() > 0.01


@pytest.mark.slow
def test_an_interrupted_run_goes_on(mead, tmp_path):
    """Whole clips are kept untouched, half ones are made again, and the result is what one run gives."""
    folder, videos = mead
    first = write_dataset(tmp_path, layout="mead", **{**SMALL, "identities": 1})
    kept = first[0].stat().st_mtime_ns
    first[1].unlink()  # killed before the video took its name
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = f".{first[1].name}.{socket.gethostname()}-{ended.pid}-0badcafe.partial"
    (first[1].parent / left).write_bytes(b"half a video")
    reports = []
    write_dataset(tmp_path, layout="mead", **SMALL, progress=lambda: reports.append(1))
    assert first[0].stat().st_mtime_ns == kept
    assert len(reports) == len(videos)
    assert contents(tmp_path) == contents(folder)


def test_a_clip_without_its_landmarks_is_made_again(tmp_path):
    one = {**SMALL, "identities": 1, "clips_per_identity": 1}
    (video,) = write_dataset(tmp_path, layout="hdtf", **one)
    before = contents(tmp_path)
    video.with_suffix(".csv").unlink()
    write_dataset(tmp_path, layout="hdtf", **one)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("change", "words"), [({"seed": 4}, "seed is 3, asked for 4"), ({"size": 128}, "size is 64")])
def test_other_clips_are_not_mixed_in(mead, change, words):
    with pytest.raises(ValueError, match=words):
        write_dataset(mead[0], layout="mead", **{**SMALL, **change})


@pytest.mark.parametrize(
    ("change", "words"), [({"layout": "flat"}, "layout='flat'"), ({"identities": 0}, "at least 1")]
)
def test_impossible_datasets_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words):
        write_dataset(tmp_path / "none", **{"layout": "mead", **SMALL, **change})
    assert not (tmp_path / "none").exists()


def test_24_clips_cover_every_emotion_at_every_level():
    for layout in ("mead", "hdtf"):
        plans = plan_clips(layout, 3, 24, 0)
        for index in range(3):
            seen = Counter((plan.emotion, plan.level) for plan in plans if plan.identity == index)
            assert set(seen) == {(emotion, level) for emotion in EMOTIONS for level in levels_of(emotion)}
        assert len({plan.video for plan in plans}) == len({plan.sentence_seed for plan in plans}) == 72


def test_more_clips_leave_the_others_as_they_are():
    few, many = plan_clips("mead", 2, 5, 1), plan_clips("mead", 4, 24, 1)
    assert {(plan.video, plan.sentence_seed) for plan in few} <= {(plan.video, plan.sentence_seed) for plan in many}
