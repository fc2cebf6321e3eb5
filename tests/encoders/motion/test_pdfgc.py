"""PD-FGC's motion encoder against the published network, and its alignment against least squares."""

import math
import warnings
from itertools import accumulate

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares

from encoders.landmarks.schemes import MEDIAPIPE_TO_IBUG
from encoders.motion.fan import FanEncoder, FeatureExtractor
from encoders.motion.pdfgc import CHUNK, PDFGCMotion, aligned_faces, alignment, load_fan, similarity
from encoders.protocols import FaceTrack
from encoders.weights import WrongWeights
from tests.helpers.refusals import refuses

# First three values of each output of PD-FGC's own FanEncoder (commit d3c1488) with these weights and faces.
RECORDED = (
    (0.5510, -2.2066, 1.4911, 0.6085, -1.9428, 1.2996),  # pose
    (-0.3579, 1.6688, -1.0073, -0.9734, 1.3594, -0.8776),  # eye
    (0.5985, 1.2065, -1.3406, 0.6414, 0.8027, -0.5610),  # emotion
    (1.0276, 0.7360, 0.4711, 1.4889, 0.7222, 0.4638),  # mouth
)
PARTS = (slice(36, 42), slice(42, 48), slice(60, 68))  # eyes and mouth of a face of 68 points


def filled_state():
    """State dict with deterministic values, computed from the alphabetical index of each key."""
    state = FanEncoder().state_dict()
    for place, key in enumerate(sorted(state)):
        shape = state[key].shape
        if key.endswith("num_batches_tracked"):
            continue
        # The fraction of a large sine: pseudo-random, and equal on every machine.
        wave = torch.sin(torch.arange(math.prod(shape), dtype=torch.float64) * 12.9898 + place) * 4375.85
        wave = (2 * (wave - wave.floor()) - 1).reshape(shape)
        if key.endswith("running_var"):
            value = 1 + 0.5 * wave
        elif len(shape) == 1:
            value = 0.1 * wave + (1 if key.endswith("weight") else 0)
        else:
            value = wave * math.sqrt(3 / math.prod(shape[1:]))
        state[key] = value.to(torch.float32)
    return state


def filled_faces(count):
    x = torch.arange(count * 3 * 224 * 224, dtype=torch.float64)
    return torch.sin(x * 0.013 + x**2 * 1e-9).reshape(count, 3, 224, 224).to(torch.float32)


@pytest.fixture(scope="module")
def network():
    return load_fan(filled_state(), "filled")


@pytest.fixture
def motion_weights(tmp_path, monkeypatch):
    torch.save(filled_state(), tmp_path / "motion_model.pth")
    monkeypatch.setenv("EMOTIVETALK_WEIGHTS", str(tmp_path))
    return tmp_path / "motion_model.pth"


def talking_track(frames=5, size=160, seed=0):
    """Track of a 68-point face that moves, rotates and talks."""
    rng = np.random.default_rng(seed)
    face = rng.uniform(-20, 20, (68, 2))
    for part, place in zip(PARTS, ([-20, -20], [20, -20], [0, 25]), strict=True):
        face[part] += place
    angle = rng.uniform(-0.3, 0.3, frames)
    turn = np.stack([np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1)
    points = np.einsum("fij,pj->fpi", turn, face) + size / 2 + rng.normal(0, 5, (frames, 1, 2))
    return FaceTrack(points.astype(np.float32), "ibug68", np.ones(frames, bool))


def test_architecture_has_the_published_size_and_keys():
    trunk, whole = FeatureExtractor(), FanEncoder()
    assert sum(p.numel() for p in trunk.parameters()) == 6_652_337
    assert sum(p.numel() for p in whole.parameters()) == 9_035_727
    keys = set(whole.state_dict())
    assert len(keys) == 387
    assert keys >= {
        "model.conv1.bias", "model.conv2.downsample.0.running_mean", "model.conv4.downsample.2.weight",
        "model.m0.b1_4.bn1.weight", "model.m0.b2_plus_1.conv3.weight", "model.m0.b3_2.conv2.weight",
        "model.top_m_0.bn3.bias", "model.conv_last0.weight", "model.bn_end0.running_var", "model.l0.weight",
        "model.bn5.weight", "model.conv6.weight", "model.fc.weight", "to_mouth.0.weight",
        "to_mouth.2.num_batches_tracked", "to_headpose.3.bias", "mouth_embed.1.weight", "headpose_embed.1.weight",
        "eye_embed.1.weight", "emo_embed.1.weight",
    }  # fmt: skip


@pytest.mark.slow
def test_outputs_match_the_published_code(network):
    """Compares with outputs recorded from PD-FGC's own FanEncoder, with equal weights and faces."""
    outputs = network(filled_faces(2))
    assert [tuple(out.shape) for out in outputs] == [(2, 6), (2, 6), (2, 30), (2, 512)]
    for out, expected in zip(outputs, RECORDED, strict=True):
        np.testing.assert_allclose(out[:, :3].flatten().numpy(), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("size", [192, 256, 448])
def test_other_sizes_are_refused(network, size):
    with pytest.raises(ValueError, match="224"):
        network(torch.zeros(1, 3, size, size))


@pytest.mark.slow
def test_network_is_frozen(network):
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    faces = filled_faces(3)
    for together, alone in zip(network(faces), network(faces[1:2]), strict=True):  # would differ with batch statistics
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_missing_wrong_and_unknown_tensors_are_reported():
    state = filled_state()
    incomplete = {key: value for key, value in state.items() if key != "to_emo.0.weight"}
    refuses(WrongWeights, r"x\.pth: lacks 1 of the 387 .*to_emo\.0\.weight", load_fan, incomplete, "x.pth")
    narrow = state | {"emo_embed.1.weight": torch.zeros(6, 512)}
    refuses(WrongWeights, r"emo_embed\.1\.weight: \(6, 512\) instead of \(30, 512\)", load_fan, narrow, "x.pth")
    refuses(WrongWeights, "expected a plain state dict", load_fan, {"state_dict": state}, "x.pth")
    with pytest.warns(UserWarning, match="1 unknown tensors: surprise"):
        load_fan({**state, "surprise": torch.zeros(1)}, "x.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_fan({**state, "mouth_fc.weight": torch.zeros(1), "classifier.0.bias": torch.zeros(1)}, "x.pth")


def test_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(3, 2)) * 50, rng.normal(size=(3, 2)) * 50

    def residual(parameters):
        a, b, x, y = parameters
        return (source @ np.array([[a, b], [-b, a]]) + [x, y] - target).ravel()

    a, b, x, y = least_squares(residual, np.zeros(4), xtol=1e-12).x
    np.testing.assert_allclose(similarity(source, target), [[a, -b, x], [b, a, y]], atol=1e-5)
    refuses(ValueError, "same point", similarity, np.ones((3, 2)), target)


def test_alignment_fixes_the_mouth_position():
    track = talking_track(1)
    matrix = alignment(track)[0]
    three = np.stack([track.landmarks[0, part].mean(0) for part in PARTS])
    placed = three @ matrix[:, :2].T + matrix[:, 2] - 0.5
    np.testing.assert_allclose(placed[2], [112, 120], atol=1e-4)
    scale = np.hypot(*matrix[:, 0])
    np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, scale**2 * np.eye(2), atol=1e-9)


def test_alignment_smooths_only_the_shift():
    track = talking_track(6)
    matrices = alignment(track)
    np.testing.assert_array_equal(matrices[:, :, :2], np.repeat(matrices[:1, :, :2], 6, axis=0))
    mouths = track.landmarks[:, 60:68].mean(1)
    placed = np.einsum("fij,fj->fi", matrices, np.concatenate([mouths, np.ones((6, 1))], 1)) - 0.5 - [112, 120]
    three = np.stack([track.landmarks[:, part].mean((0, 1)) for part in PARTS])
    base = similarity(three, np.array([[87, 59], [137, 59], [112, 120]]) + 0.5)
    shifts = -(mouths @ base[:, :2].T + base[:, 2] - 0.5 - [112, 120])
    smooth = list(accumulate(shifts, lambda previous, shift: 0.2 * previous + 0.8 * shift))
    np.testing.assert_allclose(placed, smooth - shifts, atol=1e-4)


def test_alignment_is_equal_for_both_schemes():
    track = talking_track(3)
    points = np.zeros((3, 478, 2), np.float32)
    points[:, MEDIAPIPE_TO_IBUG] = track.landmarks
    other = FaceTrack(points, "mediapipe478", track.detected)
    np.testing.assert_array_equal(alignment(track), alignment(other))


def test_faces_are_warped_cropped_and_resized():
    coarse = np.random.default_rng(0).uniform(0, 255, (12, 12))
    rows, columns = np.mgrid[:160, :160] / 160 * 11
    grey = map_coordinates(coarse, [rows, columns], order=3, mode="nearest").clip(0, 255).astype(np.uint8)
    frame, matrix = np.stack([grey] * 3, -1), np.array([[1.6, -0.3, -20.0], [0.3, 1.6, -60.0]])
    face = aligned_faces(frame[None], matrix[None])
    assert face.shape == (1, 3, 224, 224)
    # Source position of each of the 224 x 224 pixels: undo the resizing and cropping, then the similarity.
    y, x = np.mgrid[:224, :224] + 0.5
    x, y = x * 192 / 224 + 16, y * 192 / 224
    source = np.linalg.inv(matrix[:, :2]) @ (np.stack([x.ravel(), y.ravel()]) - matrix[:, 2:])
    expected = map_coordinates(frame[..., 0].astype(float), source[::-1] - 0.5, order=1)
    inside = ((source > 2) & (source < 158)).all(0)
    assert inside.mean() > 0.3
    difference = np.abs((face[0, 0].numpy().ravel() + 1) * 127.5 - expected)[inside]
    assert difference.max() < 6
    assert difference.mean() < 0.8
    outside = ((source < -3) | (source > 163)).any(0)
    assert (face[0].numpy().reshape(3, -1)[:, outside] == -1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("features", "width"), [("emo", 30), ("emo+eye", 36)])
def test_latents_of_a_clip(motion_weights, features, width):
    encoder = PDFGCMotion(features=features)
    assert (encoder.lip_width, encoder.expression_width) == (512, width)
    assert encoder.identity.options == {"features": features}
    assert list(encoder.identity.weights) == ["motion_model.pth"]
    frames = np.random.default_rng(0).integers(0, 255, (3, 160, 160, 3), np.uint8)
    track = talking_track(3)
    lip, expression = encoder(frames, track)
    assert (lip.shape, expression.shape) == ((3, 512), (3, width))
    assert lip.dtype == expression.dtype == torch.float32
    _, eye, emotion, mouth = load_fan(filled_state(), "filled")(aligned_faces(frames, alignment(track)))
    torch.testing.assert_close(lip, mouth)
    torch.testing.assert_close(expression[:, :30], emotion)
    if width == 36:
        torch.testing.assert_close(expression[:, 30:], eye)


@pytest.mark.slow
def test_latents_are_independent_of_chunks(motion_weights, monkeypatch):
    encoder = PDFGCMotion()
    frames = np.random.default_rng(0).integers(0, 255, (5, 96, 96, 3), np.uint8)
    track = talking_track(5, 96)
    whole = encoder(frames, track)
    assert CHUNK > 5
    monkeypatch.setattr("encoders.motion.pdfgc.CHUNK", 2)
    for a, b in zip(encoder(frames, track), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_unknown_features_are_refused():
    refuses(ValueError, "expected emo or emo", PDFGCMotion, features="mouth")
