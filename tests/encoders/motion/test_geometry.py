"""Latents from landmark geometry: sensitivity and invariance."""

import numpy as np
import pytest
import torch

from encoders.factory import build_as
from encoders.landmarks.schemes import MEDIAPIPE_TO_IBUG
from encoders.motion.geometry import LIP_FEATURES, LandmarkMotion
from encoders.protocols import FaceTrack
from tests.helpers.refusals import refuses

NO_FRAMES = np.zeros((0, 8, 8, 3), np.uint8)


def schematic_face():
    """(68, 2) landmarks of a schematic face: eyes 60 apart, mouth slightly open, y downwards."""
    face = np.zeros((68, 2))
    turn = np.linspace(np.pi, 0, 17)
    face[:17] = np.stack([-70 * np.cos(turn), 90 * np.sin(turn)], -1)[::-1]
    face[17:22] = [[-55, -45], [-45, -52], [-33, -54], [-22, -52], [-12, -48]]
    face[22:27] = [[12, -48], [22, -52], [33, -54], [45, -52], [55, -45]]
    face[27:31] = [[0, -30], [0, -18], [0, -6], [0, 6]]
    face[31:36] = [[-12, 14], [-6, 16], [0, 18], [6, 16], [12, 14]]
    eye = np.array([[-12, 0], [-5, -5], [5, -5], [12, 0], [5, 5], [-5, 5]])
    face[36:42], face[42:48] = eye + [-30, -30], eye + [30, -30]
    face[48:60] = [
        [-25, 45], [-15, 38], [-6, 35], [0, 36], [6, 35], [15, 38],
        [25, 45], [15, 54], [6, 58], [0, 59], [-6, 58], [-15, 54],
    ]  # fmt: skip
    face[60:68] = [[-20, 45], [-10, 42], [0, 41], [10, 42], [20, 45], [10, 49], [0, 51], [-10, 49]]
    return face


def latents(points, scheme="ibug68"):
    points = np.asarray(points, np.float64)
    points = points[None] if points.ndim == 2 else points
    encoder = LandmarkMotion()
    lip, expression = encoder(NO_FRAMES, FaceTrack(points, scheme, np.ones(len(points), bool)))
    assert (lip.shape[1], expression.shape[1]) == (encoder.lip_width, encoder.expression_width)
    assert (len(encoder.lip_names), len(encoder.expression_names)) == (encoder.lip_width, encoder.expression_width)
    names, values = (*encoder.lip_names, *encoder.expression_names), torch.cat([lip[0], expression[0]]).tolist()
    return lip.numpy(), expression.numpy(), dict(zip(names, values, strict=True))


def test_known_distances():
    _, _, named = latents(schematic_face())
    distances = {
        "inner_opening_centre": 10, "inner_opening_left": 7, "inner_opening_right": 7, "outer_opening": 23,
        "inner_width": 40, "outer_width": 50, "lower_lip_to_nose": 33, "brow_inner_left": 18, "brow_inner_right": 18,
        "brow_middle_left": 24, "brow_outer_right": 15, "brow_slant_left": 3, "brow_slant_right": 3, "brow_gap": 24,
        "eye_opening_left": 10, "mouth_corner_left": 1,
    }  # fmt: skip
    for name, distance in distances.items():  # in units of the distance between the eyes
        assert named[name] == pytest.approx(distance / 60, abs=1e-6), name
    assert named["aspect"] == pytest.approx(10 / 40, abs=1e-6)
    assert named["parted"] == pytest.approx(10 / 16, abs=1e-6)  # 0.5 at an opening of 0.1 x 60


def test_invariance_to_position_rotation_and_size():
    rng = np.random.default_rng(0)
    faces = schematic_face() + rng.normal(0, 2, (200, 68, 2))
    angle = rng.uniform(-np.pi, np.pi, 200)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    scale = np.exp(rng.uniform(-2, 2, (200, 1, 1)))
    moved = scale * np.einsum("fij,fpj->fpi", turn, faces) + rng.uniform(-500, 2000, (200, 1, 2))
    for a, b in zip(latents(faces)[:2], latents(moved.astype(np.float32))[:2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_open_mouth_changes_lips_only():
    open_mouth = schematic_face()
    open_mouth[[65, 66, 67, *range(55, 60), *range(5, 12)], 1] += 12  # lowers the lower lip and the jaw by 12
    open_mouth[[48, 54, 60, 64], 1] += 6  # lowers the corners by 6
    _, expression_a, before = latents(schematic_face())
    _, expression_b, after = latents(open_mouth)
    np.testing.assert_allclose(expression_a, expression_b, atol=1e-6)
    for name in ("inner_opening_centre", "lower_lip_to_nose"):
        assert after[name] - before[name] == pytest.approx(12 / 60), name
    assert after["aspect"] == pytest.approx(22 / 40)


def test_chin_and_lip_thickness_hardly_change_the_lip_latent():
    other = schematic_face()
    other[5:12, 1] += 10
    other[48:55, 1] -= 2
    other[55:60, 1] += 2
    lip_a, lip_b = latents(schematic_face())[0][0], latents(other)[0][0]
    different = {name for name, a, b in zip(LIP_FEATURES, lip_a, lip_b, strict=True) if abs(a - b) > 1e-6}
    assert different == {"outer_opening"}


def test_parted_saturates_with_the_opening():
    openings = (-2, 0, 6, 26, 46)
    faces = np.stack([schematic_face() for _ in openings])
    for face, opening in zip(faces, openings, strict=True):
        face[[65, 66, 67], 1] = face[[63, 62, 61], 1] + opening
    parted = latents(faces)[0][:, LIP_FEATURES.index("parted")]
    np.testing.assert_allclose(parted, [0, 0, 0.5, 26 / 32, 46 / 52], atol=1e-6)


def test_brows_eyes_and_corners_change_expression_only():
    moved = schematic_face()
    moved[17:27, 1] -= 6
    moved[[37, 38, 43, 44], 1] -= 2
    moved[[48, 54], 1] -= 5
    lip_a, _, before = latents(schematic_face())
    lip_b, _, after = latents(moved)
    np.testing.assert_allclose(lip_a, lip_b, atol=1e-6)
    changes = {"brow_inner_left": 6, "brow_outer_right": 6, "eye_opening_left": 2, "mouth_corner_left": 5}
    for name, change in changes.items():
        assert after[name] - before[name] == pytest.approx(change / 60), name


def test_left_and_right_are_those_of_the_subject():
    face = schematic_face()
    face[17:22] += [0, -6]  # the brow on the left side of the picture
    calm, moved = latents(schematic_face())[2], latents(face)[2]
    assert moved["brow_inner_right"] > calm["brow_inner_right"]
    assert moved["brow_inner_left"] == pytest.approx(calm["brow_inner_left"])


def test_both_schemes_give_the_same_latents():
    other = np.zeros((478, 2))
    other[list(MEDIAPIPE_TO_IBUG)] = schematic_face()
    for a, b in zip(latents(schematic_face())[:2], latents(other, "mediapipe478")[:2], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_invalid_landmarks_are_refused():
    refuses(ValueError, "frame 0: both eyes are at the same point", latents, np.zeros((68, 2)))
    refuses(ValueError, "68", latents, np.zeros((60, 2)))


def posed(points, side=200):
    encoder = LandmarkMotion(pose=True)
    _, expression = encoder(np.zeros((0, side, side, 3), np.uint8), FaceTrack(points[None], "ibug68", np.ones(1, bool)))
    assert expression.shape[1] == encoder.expression_width == LandmarkMotion.announced(pose=True)["expression_width"]
    assert torch.equal(expression[:, :13], LandmarkMotion()(NO_FRAMES, FaceTrack(points[None], "ibug68", None))[1])
    return dict(zip(encoder.expression_names, expression[0].tolist(), strict=True))


def test_the_pose_is_that_of_the_head_in_the_frame():
    face = schematic_face() + 100  # in the middle of a frame of 200 pixels; eyes 30 above, 60 apart, nose 48 below them
    still = {"head_x": 0, "head_y": -30 / 200, "head_size": np.log(60 / 200), "head_roll": 0, "head_yaw": 0}
    still["head_pitch"] = 48 / 60
    turn = np.array([[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]])
    nose = np.arange(31, 36)
    moves = {
        "head_x": (face + [10, 0], 10 / 200),
        "head_y": (face + [0, -10], -10 / 200),
        "head_size": ((face - 100) * 1.1 + 100, np.log(1.1)),
        "head_roll": ((face - 100) @ turn.T + 100, 0.2),
        "head_yaw": (face + 6 * np.isin(np.arange(68), nose)[:, None] * [1, 0], 6 / 60),
        "head_pitch": (face + 6 * np.isin(np.arange(68), nose)[:, None] * [0, 1], 6 / 60),
    }
    assert posed(face) == pytest.approx({**posed(face), **still}, abs=1e-6)
    for name, (moved, change) in moves.items():
        assert posed(moved)[name] - posed(face)[name] == pytest.approx(change, abs=1e-6), name
        unmoved = still.keys() - {name} - ({"head_y", "head_x"} if name in ("head_size", "head_roll") else set())
        assert {key: posed(moved)[key] for key in unmoved} == pytest.approx(
            {key: still[key] for key in unmoved}, abs=1e-6
        )


def test_an_encoder_without_the_pose_has_the_identity_of_before():
    assert LandmarkMotion().identity.options == {"version": 2}
    assert LandmarkMotion(pose=True).identity.options == {"version": 2, "pose": True}
    assert build_as("motion", LandmarkMotion(pose=True).identity).expression_width == 19
