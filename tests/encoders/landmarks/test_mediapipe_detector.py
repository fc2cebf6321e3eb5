"""MediaPipe on real clips: detection, tracking of one person, determinism."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoders.landmarks.boxes import bounding_boxes
from encoders.landmarks.face_landmarker import BLENDSHAPES, FaceLandmarker, FaceLandmarkerError
from encoders.landmarks.following import box_of, height_of
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.landmarks.schemes import FACE, LIPS
from media import read_frames


@pytest.fixture(scope="module")
def clips(assets):
    """One second of two speakers, 512 x 512."""
    videos = {name: assets / f"data/video/hdtf_WDA_{name}_000.mp4" for name in ("AOC", "KatieHill")}
    return {name: list(read_frames(video, end=1.0)) for name, video in videos.items()}


@pytest.fixture
def detector(asset_weights):
    detector = MediaPipeDetector()
    yield detector
    detector.close()


def boxes_of(tracking):
    return np.stack([box_of(face) for face in tracking.faces])


def placed(frame, size, where, side):
    """Pastes the frame, resized to ``side`` pixels, on a grey (W, H) canvas at ``where`` (left, top)."""
    canvas = np.full((size[1], size[0], 3), 90, np.uint8)
    small = np.asarray(Image.fromarray(frame).resize((side, side), Image.Resampling.LANCZOS))
    canvas[where[1] : where[1] + side, where[0] : where[0] + side] = small
    return canvas


def side_by_side(clips, size, where, side):
    """One speaker at full size, and to the left the other one on a canvas."""
    pairs = zip(clips["KatieHill"], clips["AOC"], strict=True)
    return [np.concatenate([placed(other, size, where, side), frame], axis=1) for other, frame in pairs]


@pytest.mark.slow
def test_face_is_detected_in_every_frame_deterministically(detector, clips):
    first = detector.track(iter(clips["AOC"]), Path())
    again = detector.track(iter(clips["AOC"]), Path())
    fresh = MediaPipeDetector().track(iter(clips["AOC"]), Path())
    assert (first.size, first.several, len(first.faces)) == ((512, 512), 0, 25)
    for face, same, other in zip(first.faces, again.faces, fresh.faces, strict=True):
        assert face.landmarks.shape == (478, 2)
        assert face.landmarks.dtype == face.blendshapes.dtype == np.float32
        assert face.blendshapes.shape == (52,)
        for another in (same, other):
            np.testing.assert_array_equal(face.landmarks, another.landmarks)
            np.testing.assert_array_equal(face.blendshapes, another.blendshapes)


def test_blendshapes_follow_the_mouth_opening(detector, clips):
    """``jawOpen`` correlates with the distance of the inner lips."""
    faces = detector.track(iter(clips["AOC"]), Path()).faces
    jaw = [face.blendshapes[BLENDSHAPES.index("jawOpen")] for face in faces]
    opening = [face.landmarks[14, 1] - face.landmarks[13, 1] for face in faces]
    assert np.corrcoef(jaw, opening)[0, 1] > 0.8


@pytest.mark.slow
def test_landmarks_do_not_lag_behind_the_picture(detector, clips):
    """Tracked forwards and backwards, the lips open alike; MediaPipe's filter gave differences of 0.20 and 0.30."""

    def opening(frames):
        lips = [face.landmarks[[13, 14]] for face in detector.track(frames, Path("video.mp4")).faces]
        return np.array([np.hypot(*(upper - lower)) for upper, lower in lips])

    for frames in clips.values():
        forwards, backwards = opening(frames), opening(frames[::-1])[::-1]
        assert np.sqrt(((forwards - backwards)[5:-5] ** 2).mean()) < 0.17 * forwards.std()


def test_small_face_gets_the_same_landmarks(detector, clips):
    """A face of 110 pixels in 1080 x 1920 is too small for detection in the whole picture."""
    frames = clips["AOC"][:6]
    plain = detector.track(iter(frames), Path())
    where, side = (700, 1300), 176
    small = [placed(frame, (1080, 1920), where, side) for frame in frames]
    assert not detector._detect(small[0])
    tracking = detector.track(iter(small), Path())
    assert tracking.size == (1080, 1920)
    for face, expected in zip(tracking.faces, plain.faces, strict=True):
        difference = face.landmarks - (expected.landmarks * side / 512 + where)
        assert np.abs(difference).mean() < 2


@pytest.mark.slow
def test_window_follows_a_moving_face(detector, clips):
    """A small face moves by a quarter of its height per frame, through several windows."""
    path = [(40 + 30 * step, 100 + 12 * step) for step in range(40)]
    frames = [placed(clips["AOC"][0], (1920, 800), where, 200) for where in path]
    tracking = detector.track(iter(frames), Path())
    assert sum(face is not None for face in tracking.faces) >= 38
    seen = [index for index, face in enumerate(tracking.faces) if face is not None]
    centres = np.stack([box_of(tracking.faces[index]).reshape(2, 2).mean(0) for index in seen])
    offsets = centres - np.array(path)[seen]
    assert np.ptp(offsets, axis=0).max() < 20


@pytest.mark.slow
def test_larger_of_two_faces_is_tracked(detector, clips):
    frames = side_by_side(clips, (400, 512), (40, 100), 320)
    tracking = detector.track(iter(frames), Path())
    assert tracking.several == 1
    centres = boxes_of(tracking).reshape(-1, 2, 2).mean(1)
    assert (centres[:, 0] > 400).all()
    faces = detector.detect(frames[0])
    assert len(faces) == 2
    assert height_of(faces[0]) > height_of(faces[1])
    assert box_of(faces[0])[0] > 400


def test_small_second_face_does_not_count(detector, clips):
    frames = side_by_side(clips, (200, 512), (10, 100), 180)
    assert detector.track(iter(frames[:3]), Path()).several == 0


@pytest.mark.slow
def test_cut_to_another_person_is_not_followed(detector, clips):
    """After a cut to another person at another position, only the longer shot counts."""
    left = [placed(frame, (1200, 500), (0, 40), 420) for frame in clips["AOC"]]
    right = [placed(frame, (1200, 500), (760, 40), 420) for frame in clips["KatieHill"]]
    tracking = detector.track(iter(left[:20] + right[:8]), Path())
    found = np.array([face is not None for face in tracking.faces])
    np.testing.assert_array_equal(np.flatnonzero(found), np.arange(20))


def test_no_face_is_detected_in_noise(detector):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    frames = [np.asarray(Image.fromarray(noise).resize((640, 480)))] * 6
    tracking = detector.track(iter(frames), Path())
    assert tracking.faces == [None] * 6
    assert tracking.several == 0
    assert detector.detect(frames[0]) == []
    assert detector.track(iter([]), Path()).faces == []


@pytest.mark.slow
def test_hands_are_not_detected_as_a_face(assets, detector):
    """MediaPipe sometimes detects folded hands as a face in this clip."""
    clip = assets / "data/video/latentsync_demo1.mp4"
    frames = list(read_frames(clip, start=1.6, end=1.65)) + list(read_frames(clip, start=2.4, end=2.45))
    for frame in frames:
        speaker = detector.detect(frame)[0]
        suspects = [face for face in detector._detect_in_parts(frame, 766) if box_of(face)[1] > 1000]
        assert not any(detector._confirmed(frame, face) for face in suspects)
        assert not detector._several(frame, speaker)
        assert detector._confirmed(frame, speaker) is not None


def test_outlines_match_mediapipes_connections(asset_weights):
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Connections

    oval = {point for edge in Connections.FACE_LANDMARKS_FACE_OVAL for point in (edge.start, edge.end)}
    lips = {point for edge in Connections.FACE_LANDMARKS_LIPS for point in (edge.start, edge.end)}
    assert oval == set(FACE["mediapipe478"])
    assert set(LIPS["mediapipe478"]) < lips


def test_lip_outline_encloses_all_lip_points(detector, clips):
    from mediapipe.tasks.python.vision import FaceLandmarksConnections as Connections

    all_points = sorted({point for edge in Connections.FACE_LANDMARKS_LIPS for point in (edge.start, edge.end)})
    face = detector.detect(clips["AOC"][0])[0].landmarks[None]
    np.testing.assert_allclose(
        bounding_boxes(face[:, all_points]), bounding_boxes(face[:, LIPS["mediapipe478"]]), atol=1.0
    )


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_damaged_model_is_refused(asset_weights, content):
    if content is None:
        content = (asset_weights / "face_landmarker.task").read_bytes()[:100_000]
    with pytest.raises(FaceLandmarkerError, match=r"model\.task: is not a usable FaceLandmarker model .*task=weights"):
        FaceLandmarker(content, Path("model.task"), "image")


def test_missing_system_libraries_are_named(asset_weights, monkeypatch):
    from mediapipe.tasks.python import vision

    def fail(options):
        raise OSError("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", fail)
    with pytest.raises(FaceLandmarkerError, match="apt-get install libegl1 libgles2"):
        FaceLandmarker(b"x", Path("model.task"), "image")


def test_nothing_is_written_to_standard_error(asset_weights, clips, capfd):
    MediaPipeDetector().track(iter(clips["AOC"][:3]), Path())
    assert capfd.readouterr().err == ""


@pytest.mark.nightly
def test_training_in_the_same_process_survives(asset_weights):
    """MediaPipe's profiler sends SIGPROF, which kills the process if Lightning has restored the default handler."""
    code = """
import time, numpy as np, torch
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel
detector = MediaPipeDetector()
detector.detect(np.zeros((64, 64, 3), np.uint8))
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
Trainer(max_steps=2, accelerator="cpu", **quiet).fit(BoringModel())
end = time.process_time() + 1.0  # the signal comes after some time of work
while time.process_time() < end:
    torch.randn(300, 300) @ torch.randn(300, 300)
detector.detect(np.zeros((64, 64, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
