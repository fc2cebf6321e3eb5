"""Checks of detections, interpolation of gaps, the square crop, and landmarks mapped into the crop."""

from __future__ import annotations

import numpy as np
import pytest

from configs.preparation import FaceConfig
from encoders.landmarks.boxes import face_extents
from encoders.landmarks.sidecar import SidecarDetector
from encoders.protocols import Face, FaceTrack, Tracking
from preparation.clip_source import Reason, Rejected
from preparation.speaker_crop import choose_portraits, crop_frames, find_face, follow_face, longest_run, square_crop

SIZE = (640, 480)


def face_at(x, y, size=120.0, blendshapes=None):
    """Face of 68 points whose extent, including the forehead, is ``size`` wide and high and centred at (x, y)."""
    points = np.stack(np.meshgrid(np.linspace(-0.5, 0.5, 17), np.linspace(-1 / 6, 0.5, 4)), -1).reshape(68, 2)
    return Face((points * size + [x, y]).astype(np.float32), blendshapes)


def track_of(faces, several=0.0, frame_size=128, **config):
    return follow_face(Tracking(list(faces), several, SIZE), "ibug68", FaceConfig(**config), frame_size)


def refuses(reason, faces, *words, **options):
    """Asserts that the clip is rejected for ``reason`` and that its detail contains ``words``."""
    with pytest.raises(Rejected) as caught:
        track_of(faces, **options)
    assert caught.value.reason == reason
    assert all(word in caught.value.detail for word in words), caught.value.detail


def centres(track):
    return face_extents(track.landmarks, track.scheme).reshape(-1, 2, 2).mean(1)


def test_complete_detections_are_unchanged():
    faces = [face_at(300 + i, 200, blendshapes=np.full(52, i, np.float32)) for i in range(30)]
    track = track_of(faces)
    assert len(track) == 30
    assert track.detected.all()
    np.testing.assert_array_equal(track.landmarks, np.stack([face.landmarks for face in faces]))
    np.testing.assert_array_equal(track.blendshapes[:, 0], np.arange(30))


def test_gaps_are_interpolated_and_ends_repeated():
    seen = {1, 2, 3, 7, 8, 10}
    faces = [
        face_at(300 + i, 200 - 2 * i, blendshapes=np.full(52, i, np.float32)) if i in seen else None for i in range(12)
    ]
    track = track_of(faces, max_missing=0.6)
    np.testing.assert_array_equal(np.flatnonzero(track.detected), sorted(seen))
    expected = np.interp(np.arange(12), sorted(seen), [300 + i for i in sorted(seen)])
    np.testing.assert_allclose(centres(track)[:, 0], expected, atol=1e-3)
    np.testing.assert_allclose(centres(track)[:, 1], 200 - 2 * (expected - 300), atol=1e-3)
    np.testing.assert_allclose(track.blendshapes[:, 3], expected - 300, atol=1e-5)
    assert track.landmarks.dtype == np.float32
    for i in seen:
        np.testing.assert_array_equal(track.landmarks[i], faces[i].landmarks)


def test_no_face():
    refuses(Reason.NO_FACE, [None] * 40, "no face was found in any of 40 frames")
    refuses(Reason.NO_FACE, [None], "no face was found; choose a picture")
    refuses(Reason.NO_FACE, [])


def test_several_faces():
    faces = [face_at(300, 200)] * 20
    assert track_of(faces, several=0.2) is not None
    refuses(Reason.SEVERAL_FACES, faces, "25%", "20%", several=0.25)


def test_face_lost_too_often_or_too_long():
    face = face_at(300, 200)
    refuses(Reason.FACE_LOST, ([None] + [face] * 7) * 25, "25 of 200")
    refuses(Reason.FACE_LOST, [face] * 50 + [None] * 13 + [face] * 137, "13 of them in a row")
    assert track_of([face] * 50 + [None] * 12 + [face] * 138) is not None


@pytest.mark.parametrize(("flags", "longest"), [("", 0), ("000", 0), ("1", 1), ("0110111", 3), ("1110", 3)])
def test_longest_run(flags, longest):
    assert longest_run(np.array([flag == "1" for flag in flags], bool)) == longest


def test_face_that_leaves_the_picture():
    walking = [face_at(min(300 + 12 * i, 620), 200) for i in range(40)]
    refuses(Reason.FACE_LEAVES_FRAME, walking, "640x480", "33%")  # at most: 40 of 120 pixels
    one_glitch = [face_at(300, 200)] * 20 + [face_at(630, 200)] + [face_at(300, 200)] * 20
    assert track_of(one_glitch) is not None
    a_little_outside = [face_at(52, 200)] * 20  # 8 of 120 pixels
    assert track_of(a_little_outside) is not None
    refuses(Reason.FACE_LEAVES_FRAME, a_little_outside, max_outside=0.05)


def test_face_that_is_too_small():
    small = [face_at(300, 200, size=60)] * 20
    assert track_of(small, frame_size=128) is not None
    refuses(Reason.FACE_TOO_SMALL, small, "60 pixels", "128", frame_size=512)
    refuses(Reason.FACE_TOO_SMALL, small, min_size=61)
    assert track_of(small, min_size=20, frame_size=512) is not None


def test_missing_landmark_file_rejects_the_clip(tmp_path):
    with pytest.raises(Rejected) as caught:
        find_face(SidecarDetector(), iter([]), tmp_path / "a.mp4")
    assert caught.value.reason == Reason.NO_LANDMARKS
    assert "a.csv" in caught.value.detail


def random_tracks(count=300):
    rng = np.random.default_rng(0)
    for _ in range(count):
        size = tuple(int(v) for v in rng.integers(64, 2000, 2))
        extent = rng.uniform(10, min(size))
        start = rng.uniform(-0.05, 1.05, 2) * size
        steps = rng.uniform(-1, 1, (12, 2)) * rng.uniform(0, 0.3) * extent
        landmarks = np.stack([face_at(*(start + step), size=extent).landmarks for step in steps])
        yield FaceTrack(landmarks, "ibug68", np.ones(12, bool)), size


def test_square_has_even_side_lies_inside_and_contains_the_face():
    kept = 0
    for track, (width, height) in random_tracks():
        extents = face_extents(track.landmarks, track.scheme)
        low = np.clip(extents[:, :2].min(0), 0, [width, height])
        high = np.clip(extents[:, 2:].max(0), 0, [width, height])
        if (high - low).max() > min(width, height) - 4:
            continue  # no square fits; covered by test_face_that_moves_too_far_for_a_square
        left, top, side = square_crop(track, (width, height), 1.7)
        kept += 1
        assert all(isinstance(value, int) for value in (left, top, side))
        assert side % 2 == 0
        assert 0 <= left <= width - side
        assert 0 <= top <= height - side
        assert (low >= [left, top]).all()
        assert (high <= [left + side, top + side]).all()
        assert side == min(width, height) // 2 * 2 or abs(side - 1.7 * (high - low).max()) < 5
    assert kept > 150


def test_crop_is_centred_on_the_face():
    track = track_of([face_at(320, 240, size=100)] * 5)
    left, top, side = square_crop(track, SIZE, 1.7)
    assert abs(side - 170) <= 2
    assert abs(left + side / 2 - 320) <= 1
    assert abs(top + side / 2 - 240) <= 1


def test_face_that_moves_too_far_for_a_square():
    track = track_of([face_at(70 + 27 * i, 200) for i in range(19)])
    with pytest.raises(Rejected, match="no 480x480 square of the 640x480 picture"):
        square_crop(track, SIZE, 1.7)


@pytest.mark.parametrize(("side", "frame_size"), [(170, 64), (480, 128), (120, 256), (300, 300), (478, 64)])
def test_landmarks_are_mapped_like_pixels(side, frame_size):
    """A dot at a landmark's position appears at the mapped landmark in the crop."""
    rng = np.random.default_rng(side)
    left, top = int(rng.integers(0, SIZE[0] - side + 1)), int(rng.integers(0, SIZE[1] - side + 1))
    scale = frame_size / side
    radius = max(2.0, 1.5 / scale)
    margin = 3 * radius / side
    for _ in range(10):
        point = np.array([left, top]) + rng.uniform(margin, 1 - margin, 2) * side
        columns, rows = np.arange(SIZE[0]) + 0.5 - point[0], np.arange(SIZE[1])[:, None] + 0.5 - point[1]
        dot = 255 * np.exp(-(columns**2 + rows**2) / radius**2)
        frame = np.repeat(dot.round().astype(np.uint8)[..., None], 3, axis=-1)
        (crop,) = crop_frames([frame], (left, top, side), frame_size)
        assert crop.shape == (frame_size, frame_size, 3)
        assert crop.dtype == np.uint8
        weight = crop[..., 0].astype(float)
        found = [(weight.sum(axis) * (np.arange(frame_size) + 0.5)).sum() / weight.sum() for axis in (0, 1)]
        track = FaceTrack(np.tile(point, (1, 68, 1)).astype(np.float32), "ibug68", np.ones(1, bool))
        mapped = track.cropped(left, top, scale).landmarks[0, 0]
        assert np.abs(mapped - found).max() < 0.1


def test_downscaling_does_not_alias():
    """Fine stripes become grey; subsampling without a filter would show bars."""
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    (crop,) = crop_frames([stripes], (0, 0, 480), 64)
    assert np.ptp(crop[:, 4:-4].astype(int)) <= 2
    assert abs(crop.mean() - 127.5) < 2


def test_unscaled_crop_equals_the_picture():
    frame = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    (crop,) = crop_frames(iter([frame]), (100, 50, 128), 128)
    np.testing.assert_array_equal(crop, frame[50:178, 100:228])
    (view,) = crop_frames([frame[20:, 30:]], (70, 30, 128), 128)  # frames need not be contiguous
    np.testing.assert_array_equal(view, crop)


def portraits(detected, count=4):
    detected = np.array(detected, bool)
    return choose_portraits(FaceTrack(np.zeros((len(detected), 68, 2), np.float32), "ibug68", detected), count)


def test_portraits_are_spread_evenly_from_the_first_frame():
    assert portraits([True] * 100) == [0, 33, 66, 99]
    assert portraits([True] * 4) == [0, 1, 2, 3]
    assert portraits([True] * 100, 1) == [0]


def test_portraits_prefer_detected_frames():
    detected = np.ones(100, bool)
    detected[[0, 33, 34, 99]] = False
    assert portraits(detected) == [1, 32, 66, 98]
    assert portraits(np.arange(100) >= 97) == [96, 97, 98, 99]


def test_very_short_clip_has_four_portraits():
    assert portraits([True, True]) == [0, 1, 1, 1]
    assert portraits([True]) == [0, 0, 0, 0]
