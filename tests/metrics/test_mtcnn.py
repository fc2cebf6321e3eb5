"""MTCNN's five landmarks on real videos against facenet-pytorch."""

from itertools import islice

import numpy as np
import pytest

from media import read_frames
from metrics.networks.mtcnn import MTCNN

CLIPS = ("M030_front_happy_level3_001", "W009_front_neutral_level1_001", "W011_front_happy_level3_001")


@pytest.fixture
def detector(asset_weights):
    return MTCNN(*(asset_weights / f"{letter}net.pt" for letter in "pro"))


@pytest.mark.slow
def test_landmarks_match_facenet_pytorch(oracle_folder, assets, detector):
    stored = np.load(oracle_folder / "efid" / "align_real_mtcnn.npz")
    compared = 0
    for clip in CLIPS:
        path = assets / "data" / "mead_style" / f"{clip}.mp4"
        if not path.is_file():
            continue
        frames = list(islice(read_frames(path), 55))
        for index, want in zip(stored[f"{clip}_frames"][:4], stored[f"{clip}_mtcnn_lm5"], strict=False):
            np.testing.assert_allclose(detector.largest(frames[index]), want, atol=1e-3)
            compared += 1
    assert compared >= 8


def test_no_face_in_noise_and_tiny_pictures(detector):
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    assert detector.largest(noise) is detector.largest(np.zeros((8, 8, 3), np.uint8)) is None


def test_largest_of_two_faces(oracle_folder, assets, detector):
    frame = next(iter(read_frames(assets / "data" / "mead_style" / f"{CLIPS[0]}.mp4")))
    both = np.zeros((256, 420, 3), np.uint8)
    both[:128, :128], both[:, 164:] = frame[::2, ::2], frame
    boxes, points = detector(both)
    assert len(boxes) == 2
    np.testing.assert_allclose(detector.largest(both), points[0])
    np.testing.assert_allclose(points[0], detector.largest(frame) + [164, 0], atol=3)
    assert (boxes[:, 4] > 0.7).all()
