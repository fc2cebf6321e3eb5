"""FID against pytorch-fid 0.3.0 on real frames, with rule weights in both networks."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from metrics.fid import FrechetInceptionDistance
from metrics.functional.fid import frechet_inception_distance, image_batches, list_images
from metrics.functional.frechet import frechet_distance
from metrics.networks.inception import DIMENSIONS, InceptionFeatures, preprocess
from tests.helpers.refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore:.*singular covariance")


@pytest.fixture(scope="module")
def oracle(oracle_folder):
    folder = oracle_folder / "fid"
    return json.loads((folder / "expected.json").read_text()), np.load(folder / "features_rule.npz"), folder


@pytest.fixture(scope="module")
def weights(rule_weights):
    return rule_weights("fid_inception_v3")


@pytest.fixture(scope="module")
def frames(oracle):
    folders = [oracle[2] / f"frames_W011_{emotion}" for emotion in ("neutral", "happy")]
    return [next(image_batches(list_images(folder), 40)) for folder in folders]


@pytest.mark.nightly
def test_folders_match_pytorch_fid(oracle, weights):
    expected, _, folder = oracle
    folders = folder / "frames_W011_neutral", folder / "frames_W011_happy"
    got = frechet_inception_distance(*folders, InceptionFeatures(weights))
    assert got == pytest.approx(expected["pytorch_fid_cli_fid"], rel=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_features_match_pytorch_fid_at_every_stage(oracle, weights, frames, dimensions):
    expected, features, _ = oracle
    network = InceptionFeatures(weights, dimensions)
    stored = [torch.from_numpy(features[f"{name}_{dimensions}"]) for name in ("real", "fake")]
    for side, want in zip(frames, stored, strict=True):
        torch.testing.assert_close(network(side[:4]), want[:4], rtol=1e-5, atol=1e-5 * float(want[:4].abs().max()))
    assert float(frechet_distance(*stored)) == pytest.approx(expected[f"fid_dims{dimensions}"], rel=2e-6)


def test_resize_matches_pytorch_fid(oracle):
    random = np.random.RandomState(5)
    for size, want in oracle[0]["preprocess"].items():
        height, width = map(int, size.split("x"))
        got = preprocess(torch.from_numpy(random.randint(0, 256, (1, 3, height, width)).astype(np.uint8)))
        assert float(got.double().sum()) == pytest.approx(want["sum"], abs=1e-2), size
        assert float(got.double().square().sum()) == pytest.approx(want["sumsq"], rel=1e-7), size
        for y, x in ((0, 0), (150, 37), (298, 298)):
            np.testing.assert_allclose(got[0, :, y, x], want[f"probe_[0,:,{y},{x}]"], atol=2e-7)


@pytest.mark.slow
def test_metric_equals_folders_and_is_zero_for_equal_images(oracle, weights, frames):
    network = InceptionFeatures(weights, 64)
    metric = FrechetInceptionDistance(network)
    for batch in frames[0].split(16):
        metric.update(batch, real=True)
    metric.update(frames[1].float() / 255, real=False)
    assert float(metric.compute()) == pytest.approx(oracle[0]["fid_dims64"], rel=1e-5)
    metric.reset()
    metric.update(frames[0][:8], real=True)
    metric.update(frames[0][:8].flip(0), real=False)
    assert abs(float(metric.compute())) < 1e-6


@pytest.mark.slow
def test_fid_grows_with_noise_and_blur(weights, frames):
    network = InceptionFeatures(weights, 192)
    torch.manual_seed(0)
    real = frames[0][:6].float() / 255
    noise = torch.randn_like(real)
    noisy = [(real + sigma * noise).clamp(0, 1) for sigma in (0.02, 0.05, 0.1)]
    blurred = [F.avg_pool2d(real, 2 * k + 1, 1, k, count_include_pad=False) for k in (1, 4)]
    features = network(real)
    little, more, most, blur, wide = (float(frechet_distance(features, network(x))) for x in noisy + blurred)
    assert 0 < little < more < most
    assert 1e-3 < blur < wide


def test_fid_of_another_emotion_is_larger(oracle):
    real, happy = (torch.from_numpy(oracle[1][f"{side}_2048"]) for side in ("real", "fake"))
    same_emotion, other_emotion = frechet_distance(real[::2], real[1::2]), frechet_distance(real[::2], happy[::2])
    assert abs(float(frechet_distance(real, real.flip(0)))) <= 1e-6
    assert 0 < 2 * float(same_emotion) < float(other_emotion)


@pytest.mark.slow
def test_npz_statistics_replace_a_folder(oracle, weights, tmp_path):
    expected, features, folder = oracle
    real = features["real_64"].astype(np.float64)
    np.savez(tmp_path / "real.npz", mu=real.mean(0), sigma=np.cov(real, rowvar=False))
    network, happy = InceptionFeatures(weights, 64), folder / "frames_W011_happy"
    got = frechet_inception_distance(tmp_path / "real.npz", happy, network, dimensions=64)
    assert got == pytest.approx(expected["fid_dims64"], rel=1e-5)


@pytest.mark.slow
def test_weights_must_fit_strictly(weights, tmp_path):
    torch.save(weights, tmp_path / "weights.pth")
    assert InceptionFeatures(tmp_path / "weights.pth", 64).provenance.file == "weights.pth"
    without = {k: v for k, v in weights.items() if k != "Mixed_7c.branch1x1.conv.weight"}
    refuses(ValueError, r"1 missing \(first: Mixed_7c.branch1x1.conv.weight\)", InceptionFeatures, without)
    refuses(ValueError, "1 unknown", InceptionFeatures, {**weights, "AuxLogits.fc.weight": torch.zeros(1)})
    refuses(ValueError, "of another shape", InceptionFeatures, {**weights, "fc.bias": torch.zeros(1000)})
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    refuses(ValueError, "damaged or has more than tensors", InceptionFeatures, tmp_path / "broken.pth")
    refuses(FileNotFoundError, "no such file; expected pt_inception", InceptionFeatures, tmp_path / "absent.pth")


def test_unusable_folders_are_refused(oracle, weights, tmp_path):
    network = InceptionFeatures(weights, 64)
    good = oracle[2] / "frames_W011_happy"
    refuses(ValueError, "has no image", frechet_inception_distance, tmp_path, good, network, 64)
    for name in ("001.png", "002.png"):
        shutil.copy(good / name, tmp_path / name)
    (tmp_path / "0015.png").write_bytes(b"torn")
    refuses(ValueError, r"0015.png: is not a picture", frechet_inception_distance, tmp_path, good, network, 64)
    Image.new("RGB", (64, 64)).save(tmp_path / "0015.png")
    refuses(ValueError, "must have one size", frechet_inception_distance, tmp_path, good, network, 64)


def test_autocast_does_not_change_features(weights, frames):
    network = InceptionFeatures(weights, 64)
    plain = network(frames[0][:2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(frames[0][:2]), plain)
        assert torch.nn.functional.linear(plain, plain).dtype == torch.bfloat16, "autocast was on"


def test_states_from_inference_mode_can_be_updated(weights, frames):
    metric = FrechetInceptionDistance(InceptionFeatures(weights, 64))
    with torch.inference_mode():
        metric.reset()
        metric.update(frames[0][:4], real=True)
    metric.update(frames[1][:4], real=True)
    metric.update(frames[1][:8], real=False)
    assert float(metric.compute()) > 0
