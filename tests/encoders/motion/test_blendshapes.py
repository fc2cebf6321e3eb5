"""Blendshape latents: their shapes, and scores from the track or from the frames."""

import numpy as np
import pytest
import torch

from encoders.landmarks.face_landmarker import BLENDSHAPES
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.motion.blendshapes import EXPRESSION_SHAPES, LIP_SHAPES, BlendshapeMotion
from encoders.motion.geometry import POSE_FEATURES, pose_features
from encoders.protocols import FaceTrack
from media import read_frames


def test_every_shape_belongs_to_one_latent():
    assert (len(LIP_SHAPES), len(EXPRESSION_SHAPES)) == (23, 28)
    assert sorted((*LIP_SHAPES, *EXPRESSION_SHAPES, "_neutral")) == sorted(BLENDSHAPES)
    assert all(name.startswith(("jaw", "mouth")) for name in LIP_SHAPES)
    corners = ["mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight"]
    assert [name for name in EXPRESSION_SHAPES if name.startswith("mouth")] == corners


def test_scores_of_the_track_are_used(asset_weights):
    encoder = BlendshapeMotion()
    scores = np.random.default_rng(0).uniform(size=(3, 52)).astype(np.float32)
    track = FaceTrack(np.zeros((3, 478, 2), np.float32), "mediapipe478", np.ones(3, bool), scores)
    lip, expression = encoder(np.zeros((3, 8, 8, 3), np.uint8), track)
    assert lip.dtype == expression.dtype == torch.float32
    for names, latent in ((encoder.lip_names, lip), (encoder.expression_names, expression)):
        for place, name in enumerate(names):
            np.testing.assert_array_equal(latent[:, place], scores[:, BLENDSHAPES.index(name)])


def test_the_pose_follows_the_expression(asset_weights):
    encoder, plain = BlendshapeMotion(pose=True), BlendshapeMotion()
    generator = np.random.default_rng(0)
    scores = generator.uniform(size=(3, 52)).astype(np.float32)
    points = generator.uniform(10, 90, (3, 478, 2)).astype(np.float32)
    track = FaceTrack(points, "mediapipe478", np.ones(3, bool), scores)
    frames = np.zeros((3, 100, 100, 3), np.uint8)
    (lip, expression), (lip_of_plain, expression_of_plain) = encoder(frames, track), plain(frames, track)
    torch.testing.assert_close((lip, expression[:, :28]), (lip_of_plain, expression_of_plain), rtol=0, atol=0)
    wanted = pose_features(points, "mediapipe478", 100)
    np.testing.assert_allclose(expression[:, encoder.pose_dimensions], wanted, rtol=1e-6)
    assert encoder.expression_names[28:] == POSE_FEATURES
    assert encoder.announced(pose=True) == {"lip_width": 23, "expression_width": expression.shape[1]}
    assert encoder.identity != plain.identity
    assert not plain.pose_dimensions
    assert plain.identity.options == {}


def test_blendshapes_are_measured_if_the_track_has_none(assets, asset_weights):
    frames = np.stack(list(read_frames(assets / "data/video/hdtf_WDA_AOC_000.mp4", end=0.24)))
    bare = FaceTrack(np.zeros((6, 68, 2), np.float32), "ibug68", np.ones(6, bool))
    encoder = BlendshapeMotion()
    lip, expression = encoder(frames, bare)
    faces = MediaPipeDetector().track(iter(frames), assets).faces
    scored = FaceTrack(bare.landmarks, "ibug68", bare.detected, np.stack([face.blendshapes for face in faces]))
    torch.testing.assert_close((lip, expression), encoder(frames, scored))
    jaw = lip[:, encoder.lip_names.index("jawOpen")]
    assert jaw[0] > 0.3  # the clip starts with a wide open mouth


def test_frames_without_a_face_are_refused(asset_weights):
    bare = FaceTrack(np.zeros((2, 68, 2), np.float32), "ibug68", np.ones(2, bool))
    with pytest.raises(ValueError, match="no face in any of 2 frames"):
        BlendshapeMotion()(np.zeros((2, 64, 64, 3), np.uint8), bare)
