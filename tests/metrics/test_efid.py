"""E-FID against Deep3DFaceRecon's alignment and network, and on real expression coefficients."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.efid import ExpressionFID
from metrics.functional.efid import align_face, ddfa_crop, ddfa_roi, five_points, scaled_orthography
from metrics.functional.fid import list_images, read_image
from metrics.functional.frechet import frechet_distance
from metrics.networks.deep3d import Deep3DFace
from metrics.networks.three_ddfa import ThreeDDFA
from tests.helpers.refusals import refuses

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
SPEAKERS = ("M030", "W009", "W011")


@pytest.fixture(scope="module")
def oracle(oracle_folder):
    return json.loads((oracle_folder / "efid" / "expected.json").read_text()), oracle_folder / "efid"


@pytest.fixture(scope="module")
def network(rule_weights):
    return Deep3DFace(rule_weights("deep3d_ReconNetWrapper_resnet50"))


@pytest.fixture(scope="module")
def coefficients(oracle):
    stored = np.load(oracle[1] / "real_exp_coeffs.npz")
    return {name: stored[name] for name in stored.files}


def test_alignment_of_photographs(oracle):
    expected, folder = oracle
    assert len(expected["align"]) == 3
    for name, expected_value in expected["align"].items():
        photograph = folder / "examples" / f"{name}.jpg"
        face = align_face(Image.open(photograph), np.loadtxt(photograph.with_suffix(".txt")))
        np.testing.assert_allclose(face.transform, expected_value["trans_params_w0_h0_s_tx_ty"], rtol=1e-6)
        np.testing.assert_allclose(face.landmarks, expected_value["lm_new"], atol=1e-4)
        assert hashlib.sha256(face.image.tobytes()).hexdigest() == expected_value["crop_sha256"]


def test_alignment_of_videos(oracle):
    stored = np.load(oracle[1] / "align_real_mtcnn.npz")
    clips = [name.removesuffix("_align") for name in stored.files if name.endswith("_align")]
    assert len(clips) == 5
    for clip in clips:
        for landmarks, expected_value in zip(stored[f"{clip}_mtcnn_lm5"], stored[f"{clip}_align"], strict=True):
            origin, unit = scaled_orthography(landmarks.astype(np.float64) * [1, -1] + [0, expected_value[1] - 1])
            np.testing.assert_allclose([102 / unit, *origin], expected_value[2:], rtol=1e-5)


@pytest.mark.slow
def test_network_matches_the_original(oracle, network):
    stored = np.load(oracle[1] / "align_net.npz")
    crops = torch.from_numpy(stored["crops_uint8"]).permute(0, 3, 1, 2)
    expected_value = stored["coeffs_rule"]
    np.testing.assert_allclose(
        network.coefficients(crops).numpy(), expected_value, rtol=1e-4, atol=1e-5 * np.abs(expected_value).max()
    )
    first = [row["exp_first8"] for row in oracle[0]["align"].values()]
    np.testing.assert_allclose(network(crops)[:, :8].numpy(), first, rtol=1e-4, atol=1e-4)
    assert network(crops).shape == (3, 64)


def test_distances_of_real_coefficients(oracle, coefficients):
    def clips(*names):
        return torch.from_numpy(np.concatenate([coefficients[name] for name in names]))

    def speaker(name):
        return clips(*(f"{name}_{emotion}" for emotion in EMOTIONS))

    cases = {}
    for s in SPEAKERS:
        everything, happy = speaker(s), clips(f"{s}_happy")
        for a, b in (("neutral", "happy"), ("happy", "surprised")):
            cases[f"{s}: {a} vs {b}"] = (clips(f"{s}_{a}"), clips(f"{s}_{b}"))
        cases[f"{s}: even vs odd frames (all emotions)"] = (everything[::2], everything[1::2])
        half = len(happy) // 2
        cases[f"{s}: happy first half vs second half"] = (happy[:half], happy[half:])
    cases["M030 vs W009, all emotions (identity leak)"] = (speaker("M030"), speaker("W009"))
    pooled = [clips(*(f"{s}_{e}" for s in SPEAKERS)) for e in ("happy", "neutral")]
    cases["all happy vs all neutral"] = tuple(pooled)
    cases["styletalk pairs: feifeili clip1 vs clip3"] = (clips("st_feifeili_clip1"), clips("st_feifeili_clip3"))
    cases["KristiNoem vs reagan"] = (clips("st_KristiNoem"), clips("st_reagan_clip1"))
    mead = [name for name in coefficients if not name.startswith("st_")]
    cases["MEAD all: first 8 clips vs next 8"] = (clips(*mead[:8]), clips(*mead[8:16]))
    everyone = clips(*mead).double()
    noise = torch.from_numpy(np.random.RandomState(3).randn(*everyone.shape))
    cases["MEAD all + gaussian noise sigma 0.1"] = (everyone, everyone + 0.1 * noise)
    assert set(cases) == set(oracle[0]["efid_real"])
    for name, (one, two) in cases.items():
        expected_value = oracle[0]["efid_real"][name]
        assert [len(one), len(two)] == expected_value["n"], name
        # below 64 frames the reference, scipy's root of a singular covariance, is accurate only to 1e-6
        assert float(frechet_distance(one, two)) == pytest.approx(expected_value["efid"], rel=1e-6), name
    variants = oracle[0]["variants_all_happy_vs_all_neutral"]
    assert float(frechet_distance(*pooled, "stylegan-v")) == pytest.approx(variants["frechet_64_ddof0"], rel=1e-9)
    assert float(frechet_distance(*(x[:, :10] for x in pooled))) == pytest.approx(variants["first_10_dims"], rel=1e-9)


@pytest.mark.slow
def test_metric_pools_frames_and_counts_those_without_a_face(oracle, network):
    photographs = sorted((oracle[1] / "examples").glob("*.jpg"))
    frames = [np.asarray(Image.open(photograph)) for photograph in photographs]
    landmarks = [np.loadtxt(photograph.with_suffix(".txt")) for photograph in photographs]
    metric = ExpressionFID(network)
    metric.update([*frames, frames[0]], [*landmarks, None], real=True)
    for frame, points in zip(frames, landmarks, strict=True):
        metric.update([frame], [points], real=False)
    with pytest.warns(UserWarning, match="3 samples for 64"):
        assert abs(float(metric.compute())) < 1e-6
    assert (metric.detection_rate(real=True), metric.detection_rate(real=False)) == (0.75, 1)
    assert metric.official


@pytest.mark.slow
def test_proxy_detects_a_smile_and_is_not_official(oracle_folder, asset_weights):
    network = ThreeDDFA(asset_weights / "mb05_120x120.pth", asset_weights / "mb05_param_mean_std.npz")
    face = np.array([[60.0, 70.0]] * 34 + [[200.0, 235.0]] * 34)  # valid for all frames, since MEAD's crops are equal
    metric = ExpressionFID(network)
    assert not metric.official
    assert "proxy" in metric.name
    assert network.provenance.sha256.startswith("f93ed7f1")
    features = {}
    for emotion in ("neutral", "happy"):
        pictures = list_images(oracle_folder / "fid" / f"frames_W011_{emotion}")
        frames = [read_image(path).permute(1, 2, 0).numpy() for path in pictures]
        metric.update(frames, [face] * len(frames), real=emotion == "neutral")
        crops = np.stack([ddfa_crop(frame, ddfa_roi(face)) for frame in frames])
        features[emotion] = network(torch.from_numpy(crops).permute(0, 3, 1, 2))
    between = float(metric.compute())
    assert between == pytest.approx(float(frechet_distance(features["neutral"], features["happy"])), rel=1e-9)
    within = float(frechet_distance(features["neutral"][::2], features["neutral"][1::2]))
    assert between > 5 * abs(within)
    refuses(ValueError, "landmarks of the whole face", metric.update, frames[:1], [face[:5]], real=True)


def test_crop_pads_black_outside_the_image():
    crop = ddfa_crop(np.full((100, 100, 3), 200, np.uint8), (-50, 0, 50, 100))
    assert (crop[:, :58] == 0).all()
    assert (crop[:, 62:] == 200).all()


def test_invalid_landmarks_are_refused():
    points = np.random.default_rng(0).random((68, 2))
    np.testing.assert_allclose(five_points(points)[0], points[[36, 39]].mean(0))
    np.testing.assert_allclose(five_points(points)[2:], points[[30, 48, 54]])
    refuses(ValueError, "expected finite", five_points, np.full((5, 2), np.nan))
    refuses(ValueError, "coincide", align_face, np.zeros((50, 50, 3), np.uint8), np.full((5, 2), 20.0))


@pytest.mark.slow
def test_checkpoint_without_the_network_is_refused(tmp_path, rule_weights):
    checkpoint = tmp_path / "epoch_20.pth"
    torch.save({"opt_00": {}, "sched_00": {}}, checkpoint)
    refuses(ValueError, "no entry 'net_recon'", Deep3DFace, checkpoint)
    torch.save({"net_recon": rule_weights("deep3d_ReconNetWrapper_resnet50"), "opt_00": {}}, checkpoint)
    assert Deep3DFace(checkpoint).provenance.file == "epoch_20.pth"
