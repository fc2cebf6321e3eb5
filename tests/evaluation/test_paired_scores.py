"""AED, APD, LMD, lip stability, PSNR, SSIM and KID against direct computation."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

from evaluation.coefficient_scores import POSE
from evaluation.extractor import UnusableVideo
from evaluation.kid_scores import KernelSums, kernel_of
from evaluation.landmark_scores import MOUTH, landmark_distance, lip_motion, silent_frames
from media import read_frames
from metrics.functional.bootstrap import resampled
from metrics.functional.efid import align_face
from metrics.networks.deep3d import EXPRESSION, Deep3DFace
from metrics.networks.mtcnn import MTCNN
from tests.helpers.refusals import refuses
from tests.helpers.synthetic_videos import proxy_settings, untrained, write_clip, write_speakers


def test_kernel_sums_equal_torchmetrics():
    draw = torch.Generator().manual_seed(0)
    real, made = ([shift + torch.randn(6, 5, generator=draw).double() for _ in range(4)] for shift in (0.0, 0.5))
    one, two = torch.cat(real), torch.cat(made)
    kernels = poly_kernel(one, one), poly_kernel(one, two), poly_kernel(two, two)
    assert torch.equal(kernel_of(one, two), kernels[1])
    sums = KernelSums(real, made)
    assert sums.distances(np.ones((1, 4), int))[0] == pytest.approx(float(maximum_mean_discrepancy(*kernels)), rel=1e-9)
    subset = np.array([[1, 0, 1, 1]])
    keep = torch.tensor([True, False, True, True]).repeat_interleave(6)
    kernels = tuple(kernel[keep][:, keep] for kernel in kernels)
    assert sums.distances(subset)[0] == pytest.approx(float(maximum_mean_discrepancy(*kernels)), rel=1e-9)
    assert np.isfinite(sums.distances(resampled(4, 20, 0))).all()


def test_kernel_distance_has_no_bias_of_few_frames():
    draw = torch.Generator().manual_seed(0)
    values = []
    for _ in range(200):
        sides = [[torch.randn(1, 8, generator=draw).double() for _ in range(6)] for _ in range(2)]
        values.append(KernelSums(*sides).distances(np.ones((1, 6), int))[0])
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(200)


def test_landmark_distance_ignores_the_position():
    draw = np.random.default_rng(0)
    face = draw.normal(size=(68, 2))
    moved = face + [30, -5]
    assert landmark_distance({0: face, 1: face}, {0: moved, 2: face}, MOUTH) == (pytest.approx(0), 1)
    wider = face.copy()
    wider[MOUTH] = (face[MOUTH] - face[MOUTH].mean(0)) * 2
    expected = np.linalg.norm(face[MOUTH] - face[MOUTH].mean(0), axis=1).mean()
    assert landmark_distance({0: face}, {0: wider}, MOUTH)[0] == pytest.approx(expected)
    refuses(UnusableVideo, "face on both sides", landmark_distance, {0: face}, {1: face}, MOUTH)


def test_lip_motion_counts_silent_frames_only():
    faces = {}
    for frame, opening in enumerate((1.0, 2.0, 2.0, 6.0)):
        points = np.zeros((68, 2))
        points[45] = [10, 0]
        points[66] = [0, opening]
        faces[frame] = points
    silent = np.array([True, True, True, False])
    assert lip_motion(faces, silent) == (pytest.approx((0.1 + 0.0) / 2), 2)
    refuses(UnusableVideo, "no two consecutive silent frames", lip_motion, faces, ~silent)


def test_silent_frames():
    sound = np.zeros(10 * 640, np.float32)
    sound[: 3 * 640] = 0.5
    sound[5 * 640 : 6 * 640] = 0.001  # 54 dB below
    np.testing.assert_array_equal(silent_frames(sound, 10, 25.0), [False] * 3 + [True] * 7)
    assert silent_frames(np.zeros(640, np.float32), 2, 25.0).all()


def test_psnr_and_ssim_of_pictures(evaluate, tmp_path):
    draw = np.random.default_rng(0)
    real = draw.integers(0, 255, (6, 4, 4, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    write_clip(tmp_path / "real" / "a.mp4", real)
    write_clip(tmp_path / "made" / "a.mp4", np.clip(real.astype(int) + 20, 0, 255).astype(np.uint8))
    small = write_clip(tmp_path / "small" / "a.mp4", real[:, :48, :48])
    status, results = evaluate(tmp_path / "made", tmp_path / "real", metrics=["psnr", "ssim"])
    assert status == 0
    one, two = (np.stack(list(read_frames(tmp_path / side / "a.mp4"))) / 255 for side in ("real", "made"))
    expected = -10 * np.log10(np.square(one - two).mean(axis=(1, 2, 3)))
    assert results["metrics"]["psnr"]["value"] == pytest.approx(expected.mean(), rel=1e-4)
    assert 0 < results["metrics"]["ssim"]["value"] < 1
    same = evaluate(tmp_path / "real", tmp_path / "real", metrics=["psnr", "ssim"])[1]["metrics"]
    assert (same["psnr"]["value"], same["ssim"]["value"]) == (100, pytest.approx(1))
    _, refused = evaluate(small.parent, tmp_path / "real", metrics=["psnr"])
    assert "need equal sizes" in refused["missing"][0]["reason"]


@pytest.mark.slow
def test_kid_reads_the_features_of_fid(evaluate, tmp_path, monkeypatch):
    write_speakers(tmp_path / "real", 3)
    write_speakers(tmp_path / "made", 3, gain=0.7)
    keys = {"fid": proxy_settings(untrained(tmp_path))["fid"]}
    evaluate(tmp_path / "made", tmp_path / "real", metrics=["fid"], **keys)
    monkeypatch.setattr("media.frames.FrameReader.__iter__", None)  # nothing is decoded again
    status, results = evaluate(tmp_path / "made", tmp_path / "real", metrics=["kid"], **keys)
    assert status == 0
    entry = results["metrics"]["kid"]
    assert entry["title"] == "KID proxy (small trained network)"
    assert entry["interval"]["low"] < entry["value"] < entry["interval"]["high"]


@pytest.mark.slow
def test_expression_and_pose_distances_are_those_of_the_coefficients(
    assets, asset_weights, evaluate, rule_files, tmp_path
):
    for side, clip in (("real", "M030_front_neutral_level1_001"), ("made", "M030_front_happy_level3_001")):
        frames = list(read_frames(assets / "data" / "mead_style" / f"{clip}.mp4"))[:4]
        write_clip(tmp_path / side / "a.mp4", frames)
    efid = {"network": "deep3d", "weights": rule_files("deep3d")}
    status, results = evaluate(tmp_path / "made", tmp_path / "real", metrics=["aed", "apd"], efid=efid)
    assert status == 0
    network = Deep3DFace(efid["weights"])
    detector = MTCNN(*(asset_weights / f"{letter}net.pt" for letter in "pro"))
    sides = []
    for side in ("real", "made"):
        frames = list(read_frames(tmp_path / side / "a.mp4"))
        faces = [align_face(frame, detector.largest(frame)).image for frame in frames]
        sides.append(network.coefficients(torch.from_numpy(np.stack(faces)).permute(0, 3, 1, 2)).numpy())
    apart = np.abs(sides[0] - sides[1])
    assert results["metrics"]["aed"]["value"] == pytest.approx(apart[:, EXPRESSION].mean(), rel=1e-3)
    assert results["metrics"]["apd"]["value"] == pytest.approx(apart[:, POSE].mean(), rel=1e-3)


@pytest.mark.slow
def test_landmark_metrics_of_real_speakers(assets, evaluate, tmp_path):
    video = assets / "data" / "mead_style" / "W011_front_neutral_level1_001.mp4"
    frames = list(read_frames(video))[:8]
    sound = np.zeros(8 * 640, np.float32)
    write_clip(tmp_path / "real" / "a.mp4", frames, sound)
    write_clip(tmp_path / "made" / "a.mp4", [frames[0]] * 8, sound)
    metrics = ["m_lmd", "f_lmd", "lip_stability"]
    still = evaluate(tmp_path / "made", tmp_path / "real", metrics=metrics)[1]["metrics"]
    moving = evaluate(tmp_path / "real", tmp_path / "real", metrics=metrics)[1]["metrics"]
    assert moving["m_lmd"]["value"] == moving["f_lmd"]["value"] == 0
    assert still["m_lmd"]["value"] > 0
    assert still["lip_stability"]["value"] < moving["lip_stability"]["value"]
