"""Fréchet distance against reference implementations and closed forms, and over several ranks."""

import json
import socket
from functools import reduce
from itertools import product

import numpy as np
import pytest
import torch

from metrics.fid import FrechetInceptionDistance
from metrics.frechet import FrechetMetric
from metrics.functional.frechet import (
    add_features,
    distance_between,
    frechet_distance,
    frechet_distance_from_moments,
    gaussian,
    merge_moments,
    no_moments,
)
from metrics.networks.inception import InceptionFeatures
from tests.helpers.refusals import refuses

ORACLES = ("expected_scipy1.17.1.json", "expected_scipy1.17.1_big.json")


@pytest.fixture(scope="module")
def oracle(assets):
    folder = assets / "oracle" / "frechet"
    texts = [json.loads((folder / name).read_text()) for name in ORACLES]
    merged = {section: texts[0][section] | texts[1][section] for section in ("features", "musigma")}
    return merged, np.load(folder / "features.npz"), np.load(folder / "musigma.npz")


def feature_cases(oracle):
    """Yields the name, the two feature sets and the expected values of each case."""
    expected, features, _ = oracle
    for name, values in expected["features"].items():
        yield name, torch.from_numpy(features[f"{name}__a"]), torch.from_numpy(features[f"{name}__b"]), values


@pytest.mark.slow
def test_feature_cases_match_exact_values(oracle):
    assert len(oracle[0]["features"]) == 17
    for name, a, b, values in feature_cases(oracle):
        for convention, key in (("pytorch-fid", "exact_ddof1"), ("stylegan-v", "exact_ddof0")):
            want = values[key]["value"]
            got = float(frechet_distance(a, b, convention))
            assert got == pytest.approx(want, rel=1e-10, abs=1e-10 if want < 1e-9 else 0), (name, convention)


@pytest.mark.slow
def test_feature_cases_match_scipy_references(oracle):
    for name, a, b, values in feature_cases(oracle):
        for convention, key in (("pytorch-fid", "pytorch_fid"), ("stylegan-v", "stylegan_v_ddof0")):
            if "value" in values.get(key, {}):
                want = values[key]["value"]
                assert float(frechet_distance(a, b, convention)) == pytest.approx(want, rel=1e-6, abs=1e-5), name


def test_tfgan_rule_for_small_singular_values(oracle):
    checked = 0
    for name, a, b, values in feature_cases(oracle):
        if "value" in values.get("videogpt_torch_f64", {}) and a.shape[1] <= 400:
            want = values["videogpt_torch_f64"]["value"]
            assert float(frechet_distance(a, b, "tfgan")) == pytest.approx(want, rel=1e-9, abs=1e-9), name
            checked += 1
    assert checked >= 14
    tiny = oracle[0]["features"]["scale_1em3_d64"]
    assert tiny["videogpt_torch_f64"]["value"] > 1.1 * tiny["exact_ddof1"]["value"], "this case depends on the rule"


def test_moment_cases(oracle):
    expected, _, moments = oracle
    assert len(expected["musigma"]) == 8
    for name, values in expected["musigma"].items():
        given = [torch.from_numpy(np.asarray(moments[f"{name}__{x}"])) for x in ("mu1", "sigma1", "mu2", "sigma2")]
        if name == "negative_eigenvalue_2x2":  # pytorch-fid also raises, for an imaginary component
            refuses(ValueError, "negative eigenvalue", frechet_distance_from_moments, *given)
            continue
        got = float(frechet_distance_from_moments(*given))
        if name == "scalar_atleast":  # two scalars: (mu1 - mu2)^2 + (sqrt(v1) - sqrt(v2))^2
            mu1, v1, mu2, v2 = (float(x) for x in given)
            assert got == pytest.approx((mu1 - mu2) ** 2 + (v1**0.5 - v2**0.5) ** 2, rel=1e-12)
        elif name == "jordan_block_2x2":  # scipy adds 1e-6 I, with an error of 4e-3; the exact value is 2
            assert got == pytest.approx(values["eigh_form"]["value"], rel=1e-10)
        else:
            rel = 1e-6 if name.startswith("cond") else 1e-10
            assert got == pytest.approx(values["pytorch_fid"]["value"], rel=rel), name


def test_one_dimension_matches_the_closed_form():
    a, b = torch.randn(50, 1, dtype=torch.float64), 3 * torch.randn(70, 1, dtype=torch.float64) + 1
    want = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    torch.testing.assert_close(frechet_distance(a, b), want, rtol=1e-12, atol=1e-12)


def in_parts(features, parts, batch):
    """Computes the Gaussian of features that are split into parts and added in batches."""
    shares = [features[part::parts].split(batch) for part in range(parts)]
    return gaussian(reduce(merge_moments, [reduce(add_features, share, no_moments(40)) for share in shares]))


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 40, 300])
def test_value_is_independent_of_batches_and_parts(n):
    torch.manual_seed(n)
    a, b = torch.randn(n, 40), torch.randn(n + 3, 40) * 2 + 0.5
    whole = float(frechet_distance(a, b))
    for parts, batch in product((2, 4), (1, 7, 64)):
        found = distance_between(in_parts(a, parts, batch), in_parts(b, parts, batch))
        assert float(found) == pytest.approx(whole, rel=1e-12)


def test_memory_stays_bounded():
    moments = no_moments(16)
    for _ in range(100):
        moments = add_features(moments, torch.randn(10, 16))
        assert len(moments.kept) < 16
    assert moments.samples == 1000


def test_invalid_features_are_refused():
    good = torch.randn(10, 4)
    bad = good.clone()
    bad[3, 1] = float("nan")
    refuses(ValueError, "row 3", frechet_distance, good, bad)
    refuses(ValueError, "at least two samples", frechet_distance, good, good[:1])
    refuses(ValueError, "feature sets", frechet_distance, good, good[:, :3])
    refuses(ValueError, "shape", add_features, no_moments(5), good)
    refuses(ValueError, "unknown Fréchet convention", frechet_distance, good, good, "scipy")


def test_singular_covariance_gives_a_warning():
    metric = FrechetMetric(dimensions=20)
    metric.update(torch.randn(8, 20), real=True)
    metric.update(torch.randn(50, 20), real=False)
    with pytest.warns(UserWarning, match="8 samples for 20 dimensions"):
        assert metric.compute() > 0


def test_metric_equals_function_and_resets():
    a, b = torch.randn(80, 12), torch.randn(90, 12) + 1
    metric = FrechetMetric(dimensions=12, convention="stylegan-v")
    for _ in range(2):
        for piece in a.split(7):
            metric.update(piece, real=True)
        metric.update(b, real=False)
        assert float(metric.compute()) == pytest.approx(float(frechet_distance(a, b, "stylegan-v")), rel=1e-12)
        metric.reset()
    metric.update(b[:0], real=False)
    refuses(ValueError, "real side", metric.compute)


def test_merged_moments_replace_features():
    a, b = torch.randn(70, 16), torch.randn(20, 16) + 1
    metric, other = FrechetMetric(dimensions=16), FrechetMetric(dimensions=16)
    metric.update(a, real=True)
    other.merge(metric.moments(real=True), real=True)
    other.update(b, real=False)
    assert float(other.compute()) == pytest.approx(float(frechet_distance(a, b)), rel=1e-12)
    refuses(ValueError, "cannot merge features of 16 and 8", other.merge, no_moments(8), real=True)


def _in_ranks(world, metric, sides, batch):
    """Computes ``metric`` with both sides split over ``world`` processes of a gloo group."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    context = torch.multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def run(rank):
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=world)
        for real, side in ((True, sides[0]), (False, sides[1])):
            for piece in side[rank::world].split(batch + rank):  # with three rows, rank 3 has none
                metric.update(piece, real=real)
        results.put((rank, float(metric.compute())))
        torch.distributed.destroy_process_group()

    processes = [context.Process(target=run, args=(rank,)) for rank in range(world)]
    for process in processes:
        process.start()
    values = dict(results.get() for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert len(set(values.values())) == 1, "all ranks must have the same value"
    return values[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("world", "sizes"), [(2, (300, 50)), (4, (9, 130)), (4, (40, 3))])
def test_ranks_match_one_process(world, sizes):
    torch.manual_seed(world)
    features = [torch.randn(n, 32) + i for i, n in enumerate(sizes)]
    found = _in_ranks(world, FrechetMetric(dimensions=32), features, batch=5)
    assert found == pytest.approx(float(frechet_distance(*features)), rel=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ranks_match_one_process_from_frames(rule_weights):
    network = InceptionFeatures(rule_weights("fid_inception_v3"), 64)
    torch.manual_seed(0)
    frames = [torch.randint(0, 256 - 60 * i, (9, 3, 32, 32), dtype=torch.uint8) for i in range(2)]
    whole = float(frechet_distance(*(network(side) for side in frames)))
    assert _in_ranks(2, FrechetInceptionDistance(network), frames, batch=2) == pytest.approx(whole, rel=1e-5)
