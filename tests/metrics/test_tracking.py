"""Shots, tracks and crops against syncnet_python and PySceneDetect 0.5.1."""

import json

import av
import numpy as np
import pytest

from metrics.functional.tracking import box_iou, crop_face, crop_path, find_shots, track_faces
from tests.helpers.refusals import refuses


@pytest.fixture(scope="module")
def folder(oracle_folder):
    return oracle_folder / "syncnet"


def test_tracks_match_syncnet_python(folder):
    cases = json.loads((folder / "tracks.json").read_text())
    assert len(cases) == 6
    for name, case in cases.items():
        detections = [np.array([face["bbox"] for face in frame]).reshape(-1, 4) for frame in case["input"]]
        tracks = track_faces(detections, min_track=100)
        assert len(tracks) == case["n_tracks"], name
        for track, want in zip(tracks, case["tracks"], strict=True):
            assert (track.frames[0], track.frames[-1], len(track.frames)) == (want["first"], want["last"], want["n"])
            found = track.boxes[0], track.boxes[len(track.boxes) // 2], track.boxes.sum(axis=0)
            np.testing.assert_allclose(found, [want[f"bbox_{x}"] for x in ("first", "mid", "sum")], rtol=1e-12)


def test_limits_match_syncnet_python():
    box, none = np.array([[0.0, 0, 150, 150]]), np.zeros((0, 4))
    assert track_faces([box] * 100, min_track=100) == []  # strictly more than 100
    assert len(track_faces([box] * 101, min_track=100)) == 1
    assert track_faces([box[:] * [1, 1, 100 / 150, 100 / 150]] * 60) == []  # strictly more than 100 pixels
    assert len(track_faces([box] * 60 + [none] * 24 + [box] * 60, min_track=100)) == 1
    assert len(track_faces([box] * 60 + [none] * 25 + [box] * 60, min_track=100)) == 0
    assert track_faces([box] * 60, first=7)[0].frames[0] == 7


def test_crop_path_matches_syncnet_python(folder):
    stored = json.loads((folder / "clip_track.json").read_text())
    i = np.arange(stored["n_frames"])
    left, top = 150 + 4 * np.sin(i / 7), 110 + 3 * np.cos(i / 9)
    path = crop_path(np.stack([left, top, left + 210, top + 260], axis=1))
    for name, got in (("x", path.x), ("y", path.y), ("s", path.half)):
        np.testing.assert_allclose(got, stored["proc_track"][name], rtol=1e-12)


def test_crop_outside_the_frame_is_padded():
    frame = np.full((100, 200, 3), 7, np.uint8)
    crop = crop_face(frame, x=20.0, y=50.0, half=40.0)
    assert crop.shape == (112, 112, 3)  # 2.8 h high and wide
    assert (crop[:, :36] == 110).all()
    assert (crop[:90, 37:] == 7).all()
    refuses(ValueError, "outside", crop_face, frame, x=900.0, y=50.0, half=40.0)


def test_box_iou():
    assert box_iou(np.array([0, 0, 2, 2.0]), np.array([1, 0, 3, 2.0])) == pytest.approx(1 / 3)
    assert box_iou(np.array([0, 0, 1, 1.0]), np.array([2, 2, 3, 3.0])) == 0


@pytest.mark.slow
def test_shots_match_pyscenedetect(folder):
    expected = json.loads((folder / "expected_extra.json").read_text())
    for name in ("two_shots.avi", "two_shots_cut_visible.avi"):
        with av.open(str(folder / name)) as container:
            shots = find_shots(frame.to_ndarray(format="rgb24") for frame in container.decode(video=0))
        assert [list(shot) for shot in shots] == expected[name]
    assert find_shots([]) == []


def test_hsv_matches_opencv():
    cv2 = pytest.importorskip("cv2")
    from metrics.functional.tracking import _hsv

    image = np.random.RandomState(0).randint(0, 256, (64, 64, 3)).astype(np.uint8)
    image[0] = image[0, :, :1]  # grey pixels
    want = cv2.cvtColor(image, cv2.COLOR_RGB2HSV).astype(int)
    got = _hsv(image)
    assert (got != want).mean() < 0.02  # OpenCV rounds with a lookup table
    assert np.abs(got - want).max() <= 1 or ((got - want)[..., 0] % 180 <= 1).all()


def test_cuts_in_the_first_frames_count():
    """Expected values are those of PySceneDetect 0.5.1, whose first cut may be anywhere."""
    dark, light = np.full((32, 32, 3), 20, np.uint8), np.full((32, 32, 3), 230, np.uint8)
    assert find_shots([light] * 5 + [dark] * 40) == [(0, 5), (5, 45)]
    assert find_shots([light] * 5 + [dark] * 10 + [light] * 30) == [(0, 5), (5, 45)]  # 10 frames after the last cut
    assert find_shots([light] * 14 + [dark] * 20 + [light] * 20) == [(0, 14), (14, 34), (34, 54)]


def test_pictures_of_400_pixels_are_subsampled_by_two():
    """PySceneDetect 0.5.1 skips every second pixel from a width of 400 on, so it does not see single columns."""
    plain = np.full((8, 400, 3), 20, np.uint8)
    striped = plain.copy()
    striped[:, 1::2] = 255
    assert find_shots([plain] * 20 + [striped] * 20) == [(0, 40)]
