"""FVD against StyleGAN-V, fvd-comparison, VideoGPT, LatentSync and DisCo, with rule weights on real clips."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from metrics.functional.frechet import frechet_distance
from metrics.functional.fvd import PROTOCOLS, preprocess, protocol_named, sample_clips
from metrics.fvd import FrechetVideoDistance
from metrics.networks.i3d import I3D, hassony2_names
from tests.helpers.refusals import refuses

pytestmark = pytest.mark.filterwarnings("ignore:.*singular covariance")
TABLE = {
    "fvd-comparison": "reference (trilinear==bilinear, [-1,1], bn eps 1e-3)",
    "disco": "bicubic antialias (DisCo / clean-fid style)",
    "latentsync": "input left in [0,1] (LatentSync eval_fvd.py, fvd-comparison demo)",
    "videogpt": "uint8 truncation of [0,1] floats, videogpt preprocess",
}


@pytest.fixture(scope="module")
def oracle(oracle_folder):
    folder = oracle_folder / "fvd"
    return json.loads((folder / "expected.json").read_text()), np.load(folder / "features_rule.npz")


@pytest.fixture(scope="module")
def clips(oracle_folder):
    stored = np.load(oracle_folder / "fvd" / "clips.npz")
    return {side: torch.from_numpy(stored[side]).permute(0, 1, 4, 2, 3) for side in ("real", "fake")}


@pytest.fixture(scope="module")
def weights(rule_weights):
    return rule_weights("i3d_videogpt_InceptionI3d")


@pytest.mark.slow
def test_metric_matches_stylegan_v(oracle, clips, weights):
    metric = FrechetVideoDistance(weights)
    for side in ("real", "fake"):
        for batch in clips[side].split(4):
            metric.update(batch, real=side == "real")
    value = float(metric.compute())
    assert value == pytest.approx(oracle[0]["exact_ddof0"], rel=1e-5)
    assert value == pytest.approx(oracle[0]["fvd_styleganv_flavour_ddof0"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("protocol", "side"), [("stylegan-v", "styleganv"), ("videogpt", "videogpt")])
def test_features_match_the_originals(oracle, clips, weights, protocol, side):
    flavour = protocol_named(protocol)
    got = I3D(weights, eps=flavour.eps)(preprocess(clips["fake"][:2], flavour)).numpy()
    want = oracle[1][f"{side}_fake"][:2]
    # VideoGPT's reference features are from before its truncating cast, which changes single grey levels by one
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * np.abs(want).max())


@pytest.mark.slow
def test_fvd_grows_with_noise_blur_and_another_emotion(oracle, clips, weights):
    network, flavour = I3D(weights), protocol_named("stylegan-v")
    real = clips["real"][:2].float() / 255
    noise = torch.randn(real.shape, generator=torch.Generator().manual_seed(0))

    def blurred(k):
        return F.avg_pool2d(real.flatten(0, 1), 2 * k + 1, 1, k, count_include_pad=False).reshape(real.shape)

    clean = torch.from_numpy(oracle[1]["styleganv_real"][:2])

    def distance(features):
        return float(frechet_distance(clean, features, "stylegan-v"))

    noisy = [(real + level / 255 * noise).clamp(0, 1) for level in (10, 40)]
    made = [distance(network(preprocess(clip, flavour))) for clip in (*noisy, blurred(1), blurred(4))]
    assert abs(distance(clean)) <= 1e-6
    assert 0.1 < made[0] < made[1]
    assert 0.1 < made[2] < made[3]
    # the generated side of the reference data has the same speakers with another emotion
    assert distance(torch.from_numpy(oracle[1]["styleganv_fake"][:2])) > 0.1


def test_distances_of_reference_features(oracle):
    expected, features = oracle
    for side, key, convention, rel in (
        ("styleganv", "exact_ddof0", "stylegan-v", 1e-10),
        ("styleganv", "exact_ddof1", "pytorch-fid", 1e-10),
        ("styleganv", "fvd_fvd_comparison_ddof1", "pytorch-fid", 1e-6),
        ("videogpt", "fvd_videogpt_flavour", "tfgan", 5e-4),  # accuracy of its float32 SVD
    ):
        pair = [torch.from_numpy(features[f"{side}_{x}"]) for x in ("real", "fake")]
        assert float(frechet_distance(*pair, convention)) == pytest.approx(expected[key], rel=rel), key


@pytest.mark.nightly
@pytest.mark.parametrize("protocol", TABLE)
def test_other_protocols_match_their_originals(oracle, clips, weights, protocol):
    metric = FrechetVideoDistance(weights, protocol)
    metric.update(clips["real"], real=True)
    metric.update(clips["fake"], real=False)
    want = oracle[0]["discrepancy_table_rule_weights"][TABLE[protocol]]["fvd_ddof1_exact"]
    assert float(metric.compute()) == pytest.approx(want, rel=1e-5)


def test_sampled_frames_match_stylegan_v(oracle_folder):
    stored = json.loads((oracle_folder / "fvd" / "sampling.json").read_text())
    names = sorted(stored["video_lengths"])
    lengths = [stored["video_lengths"][name] for name in names]
    cases = [key for key in stored if key.startswith("fvd2048")]
    assert len(cases) == 5
    for case in cases:
        name, side = case.rsplit("_", 1)
        for run in stored[case]["runs"]:
            sampling = sample_clips(lengths, protocol_named(name), real=side == "real", seed=run["random.seed"])
            assert [names[clip.video] for clip in sampling.clips] == stored[case]["kept_videos"]
            assert sorted([*sampling.too_short, *(clip.video for clip in sampling.clips)]) == list(range(len(names)))
            for clip, want in zip(sampling.clips, run["items_in_order"], strict=True):
                assert (clip.frames[0], clip.frames[-1], len(clip.frames)) == (want["first"], want["last"], want["n"])


@pytest.mark.slow
def test_both_sets_of_parameter_names_load(oracle_folder, weights, rule_weights):
    names = json.loads((oracle_folder / "keys" / "i3d_videogpt_to_hassony2.json").read_text())
    translated = hassony2_names({key: torch.tensor(i) for i, key in enumerate(names)})
    assert {new: list(names)[int(i)] for new, i in translated.items()} == {new: old for old, new in names.items()}
    assert set(I3D(rule_weights("i3d_hassony2_I3D")).state_dict()) == set(names.values())
    with pytest.raises(ValueError, match="1 missing"):
        I3D({key: value for key, value in weights.items() if key != "logits.conv3d.bias"})


@pytest.mark.slow
def test_torchscript_archive_loads(weights, tmp_path):
    scripted = torch.jit.trace(I3D(weights), torch.zeros(1, 3, 16, 224, 224), check_trace=False)
    scripted.save(tmp_path / "i3d_torchscript.pt")
    network = I3D(tmp_path / "i3d_torchscript.pt")
    assert network.provenance.file == "i3d_torchscript.pt"
    assert torch.equal(network.conv3d_0c_1x1.conv3d.weight, weights["logits.conv3d.weight"])


def test_wide_clips_are_squashed_or_cropped():
    clip = torch.zeros(1, 16, 3, 112, 224, dtype=torch.uint8)
    clip[..., 56:168] = 255  # the white middle half is exactly the centre crop
    assert preprocess(clip, PROTOCOLS["videogpt"])[..., 1:-1].min() > 0.99
    squashed = preprocess(clip, PROTOCOLS["stylegan-v"])
    assert squashed.shape == (1, 3, 16, 224, 224)
    assert float(squashed.mean()) == pytest.approx(0, abs=0.02)


def test_invalid_clips_are_refused():
    protocol, short = protocol_named("stylegan-v"), torch.zeros(1, 8, 3, 64, 64, dtype=torch.uint8)
    refuses(ValueError, "at least two videos of 16 frames", sample_clips, [15, 16, 3], protocol, real=True)
    refuses(ValueError, "found .1, 8, 3", preprocess, short, protocol)
    refuses(ValueError, "unknown FVD protocol", protocol_named, "fvd")
