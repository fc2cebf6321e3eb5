"""Made footage of every bad kind: split, shortened, kept or not chosen, for the right reason.

The speakers are synthetic and were not used to choose the scan's thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFilter

from configs.command_line import compose
from configs.preparation import PrepareConfig
from encoders.landmarks.sidecar import SidecarDetector
from media import VideoWriter
from preparation.choice.choose_shots import choose_shots
from preparation.clip_source import ClipSource
from preparation.scan.columns import SCHEMA
from preparation.scan.scan_clip import Row, scan_clip
from preparation.synthetic.synthetic_clip import SyntheticClip, render_clip
from preparation.synthetic.world import identity
from preparation.synthetic.write import openface_csv
from tests.helpers.footage import Frames, letterboxed, noise, shaken

SIZE, FRAMES = 96, 100
RATE = 16_000


@pytest.fixture(scope="module")
def talks() -> list[tuple[SyntheticClip, Frames]]:
    """Clips of four synthetic speakers in equal framing, and their frames."""
    clips = [render_clip(identity(index), "neutral", 1, 10 + index, FRAMES / 25, SIZE) for index in range(4)]
    return [(clip, list(clip.frames())) for clip in clips]


def scan(
    folder: Path,
    clip: SyntheticClip,
    frames: Iterable[np.ndarray],
    sound: np.ndarray | None,
    landmarks: np.ndarray | None = None,
) -> list[Row]:
    """Writes a video with landmarks and returns its rows."""
    path = folder / "talk.mp4"
    frames = [np.ascontiguousarray(frame) for frame in frames]
    with VideoWriter(path, size=frames[0].shape[1::-1], sound=sound, sound_rate=RATE) as writer:
        for frame in frames:
            writer.write(frame)
    return scan_file(path, clip, clip.landmarks if landmarks is None else landmarks)


def scan_file(path: Path, clip: SyntheticClip, landmarks: np.ndarray) -> list[Row]:
    path.with_suffix(".csv").write_text(openface_csv(replace(clip, landmarks=landmarks)))
    source = ClipSource(key="talk", path=path, name=path.name, speaker="talk", split="train")
    rows = scan_clip(source, SidecarDetector())
    assert [row["problem"] for row in rows] == [None] * len(rows), rows[0]["detail"]
    return rows


def missed(rows: Sequence[Row], **changes: object) -> set[str]:
    """Columns of the conditions of preset tiny that these shots miss."""
    config = compose("prepare", PrepareConfig, ["preset=tiny", "dataset=folder", "frame_size=64"])
    table = pa.Table.from_pylist([row | changes for row in rows], SCHEMA)
    return {
        text.removeprefix("not ").removeprefix("0.98<=").lstrip("(").split()[0].split("<")[0].split(">")[0]
        for text, count in ((condition.text, condition.shots) for condition in choose_shots(table, config).missed)
        if count
    }


def spans(rows: Sequence[Row]) -> list[tuple[int, int]]:
    return [(row["first_frame"], row["first_frame"] + row["frames"]) for row in rows]


def test_a_good_clip_is_one_shot_that_is_chosen(talks, tmp_path):
    for clip, frames in talks:
        rows = scan(tmp_path, clip, frames, clip.sound)
        assert spans(rows) == [(0, FRAMES)]
        assert missed(rows) == set()


def test_cuts_between_speakers_in_equal_framing_split_a_clip(talks, tmp_path):
    (a, of_a), (b, of_b), *_ = talks
    for parts in ((40,), (20, 40, 60, 80), (30, 36, 66, 72)):
        edges = [0, *parts, FRAMES]
        frames, points = [], []
        for number, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            frames += (of_a, of_b)[number % 2][first:last]
            points.append((a, b)[number % 2].landmarks[first:last])
        assert spans(scan(tmp_path, a, frames, a.sound, np.concatenate(points))) == list(
            zip(edges, edges[1:], strict=False)
        )


def test_a_cutaway_without_a_face_is_a_shot_of_its_own(talks, tmp_path):
    clip, frames = talks[0]
    rows = scan(tmp_path, clip, [*frames[:40], *(noise(frames[0].shape, 1) * 30), *frames[70:]], clip.sound)
    assert spans(rows) == [(0, 40), (40, 70), (70, 100)]


@pytest.mark.parametrize("late", ["picture", "sound"])
def test_a_clip_starts_when_both_tracks_have_started(talks, tmp_path, late):
    """As ``ffmpeg -ss X -c copy`` leaves a file: one track starts 1 s after the other."""
    clip, frames = talks[0]
    path = tmp_path / "talk.mkv"
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for number, frame in enumerate(frames[:75]):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = number + (25 if late == "picture" else 0)
            container.mux(video.encode(picture))
        container.mux(video.encode())
        sound = (clip.sound * 32767).astype(np.int16)[None]
        for place in range(0, sound.shape[1] - RATE * (late == "sound"), 640):
            piece = av.AudioFrame.from_ndarray(sound[:, place : place + 640], format="s16", layout="mono")
            piece.sample_rate, piece.pts = RATE, place + RATE * (late == "sound")
            container.mux(audio.encode(piece))
        container.mux(audio.encode())
    (row,) = scan_file(path, clip, clip.landmarks)
    assert (row["first_frame"], row["start"]) == (25, 1.0)
    assert row[f"late_{late}"] == pytest.approx(1.0, abs=0.01)
    assert row["frames"] == (75 if late == "picture" else 50)
    assert row["frozen_frames"] <= 3
    assert row["silence_s"] < 0.5


@pytest.mark.parametrize(("seconds", "frames"), [(2.0, 50), (3.85, 96)])
def test_a_clip_ends_with_the_track_that_ends_first(talks, tmp_path, seconds, frames):
    clip, pictures = talks[0]
    path = tmp_path / "talk.mkv"
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width = video.height = SIZE
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for frame in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        sound = (clip.sound[: int(seconds * RATE)] * 32767).astype(np.int16)[None]
        piece = av.AudioFrame.from_ndarray(sound, format="s16", layout="mono")
        piece.sample_rate = RATE
        container.mux(audio.encode(piece))
        container.mux(audio.encode())
    assert spans(scan_file(path, clip, clip.landmarks)) == [(0, frames)]


def test_pictures_that_stand_still_are_not_chosen(talks, tmp_path):
    clip, frames = talks[0]
    frozen = [*frames[:30], *([frames[30]] * 50), *frames[80:]]
    points = clip.landmarks.copy()
    points[30:80] = points[30]
    rows = scan(tmp_path, clip, frozen, clip.sound, points)
    assert spans(rows) == [(0, 80), (80, 100)]  # the speaker jumps when the picture moves again
    assert "frozen_frames" in missed(rows[:1])
    still = np.repeat(clip.landmarks[:1], FRAMES, 0)
    assert missed(scan(tmp_path, clip, frames[:1] * FRAMES, clip.sound, still)) >= {"frozen_frames", "lip_motion"}


def test_a_listener_with_a_voice_from_elsewhere_is_not_chosen(talks, tmp_path):
    """The camera moves, the mouth does not."""
    clip, frames = talks[0]
    still = np.repeat(clip.landmarks[:1], FRAMES, 0)
    assert missed(scan(tmp_path, clip, shaken(frames[:1] * FRAMES, 2), clip.sound, still)) == {"lip_motion"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("tone", {"speech", "steady_tone"}),
        ("chords", {"steady_tone"}),
        ("zeros", {"speech", "silence_s", "loudest"}),
        ("hiss", {"speech"}),
        ("a second of four", {"silence_s"}),
        ("none", {"has_sound"}),
    ],
)
def test_sound_that_is_no_speech_is_not_chosen(talks, tmp_path, kind, expected):
    clip, frames = talks[0]
    time = np.arange(len(clip.sound)) / RATE
    notes = np.array([262, 330, 392, 440])[(time * 2).astype(int) % 4]
    sound = {
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "chords": 0.3 * np.sin(2 * np.pi * notes * time) * (1 - 0.95 * (time * 2 % 1)),
        "zeros": 0 * time,
        "hiss": np.random.default_rng(0).normal(0, 0.05, len(time)),
        "a second of four": clip.sound * ((time >= 1) & (time < 2)),
        "none": None,
    }[kind]
    found = missed(scan(tmp_path, clip, frames, None if sound is None else sound.astype(np.float32)))
    assert found >= expected


def test_bars_and_blur_are_not_chosen(talks, tmp_path):
    clip, frames = talks[0]
    assert missed(scan(tmp_path, clip, letterboxed(frames, 0.12), clip.sound)) == {"border"}
    soft = [np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(3))) for frame in frames]
    assert missed(scan(tmp_path, clip, soft, clip.sound)) == {"blur"}


def test_a_face_that_is_missing_or_leaves_is_not_chosen(talks, tmp_path):
    clip, frames = talks[0]
    points = clip.landmarks.copy()
    points[20:50] = np.nan
    assert missed(scan(tmp_path, clip, frames, clip.sound, points)) >= {"face_share", "face_gap"}
    away = clip.landmarks + np.linspace(0, 60, FRAMES)[:, None, None] * [1, 0]
    assert "face_outside" in missed(scan(tmp_path, clip, frames, clip.sound, away))


def test_converted_pictures_are_chosen_and_copies_are_not(talks, tmp_path):
    clip, frames = talks[0]
    rows = scan(tmp_path, clip, frames, clip.sound)
    assert missed(rows, interlaced=True, hdr=True, pixel_aspect=1.33) == set()
    assert missed(rows, duplicate_of="other") == {"duplicate_of"}


def test_a_file_that_is_no_video_or_asks_for_too_much_is_a_row_with_a_problem(talks, tmp_path):
    clip, frames = talks[0]
    scan(tmp_path, clip, frames[:30], clip.sound)
    whole = (tmp_path / "talk.mp4").read_bytes()
    contents = {
        "cut": whole[: len(whole) // 2], "empty": b"", "words": b"no video",
        "list": b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n",
    }  # fmt: skip
    for name, content in contents.items():
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(content)
        source = ClipSource(key=name, path=path, name=path.name, speaker="talk", split="train")
        (row,) = scan_clip(source, SidecarDetector())
        assert (row["problem"], row["clip"], set(row)) == ("decode_error", name, set(SCHEMA.names))


def test_a_video_that_changes_while_it_is_read_is_a_row_with_a_problem(talks, tmp_path):
    clip, frames = talks[0]
    scan(tmp_path, clip, frames[:30], clip.sound)

    class Growing(SidecarDetector):
        def track(self, frames, video, start=0.0):
            video.write_bytes(video.read_bytes() + bytes(100))
            return super().track(frames, video, start)

    path = tmp_path / "talk.mp4"
    (row,) = scan_clip(ClipSource(key="talk", path=path, name="talk.mp4", speaker="a", split="train"), Growing())
    assert row["problem"] == "unreadable"
    assert "changed while it was read" in row["detail"]
