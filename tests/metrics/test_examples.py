"""Runs the examples in the metrics' docstrings, in a folder with weight files of the official names."""

import doctest
import importlib

import numpy as np
import pytest
import torch
from PIL import Image

FILES = {
    "pt_inception-2015-12-05-6726825d.pth": "fid_inception_v3",
    "i3d_torchscript.pt": "i3d_hassony2_I3D",
    "syncnet_v2.model": "syncnet_S",
    "sfd_face.pth": "s3fd_S3FDNet",
    "epoch_20.pth": "deep3d_ReconNetWrapper_resnet50",
}
FIVE = np.array([[30.0, 40], [66, 40], [48, 60], [34, 78], [62, 78]])


def pictures(*shape):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working folder of the examples, with two real and two generated pictures."""
    for side in ("real", "fake"):
        (tmp_path / "frames" / side).mkdir(parents=True)
        for number, image in enumerate(pictures(2, 32, 32, 3).numpy()):
            Image.fromarray(image + (side == "fake")).save(tmp_path / "frames" / side / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(assets, folder, network):
    """Returns the variables that the examples use without defining them."""
    faces = list(pictures(3, 96, 96, 3).numpy())
    return {
        "real_frames": pictures(3, 3, 32, 32), "generated_frames": pictures(3, 3, 32, 32).flip(3),
        "real_clips": pictures(2, 16, 3, 32, 32), "generated_clips": pictures(2, 16, 3, 32, 32).flip(4),
        "frames": pictures(10, 3, 224, 224) if network == "syncnet" else faces,
        "points": [FIVE] * 3, "fakes": [face[::-1].copy() for face in faces], "fake_points": [None, FIVE, FIVE],
        "samples": np.zeros(11 * 640, np.int16), "frame": pictures(128, 128, 3).numpy(),
        "video": assets / "data" / "video" / "hdtf_WDA_AOC_000.mp4", "work": folder / "work",
        "detector": lambda frames: [np.array([[150.0, 110, 360, 370]])] * len(frames),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*singular covariance")
@pytest.mark.parametrize(
    ("place", "file"),
    [
        ("metrics.frechet.FrechetMetric", None),
        ("metrics.functional.frechet.frechet_distance", None),
        ("metrics.fid.FrechetInceptionDistance", "pt_inception-2015-12-05-6726825d.pth"),
        ("metrics.functional.fid.frechet_inception_distance", "pt_inception-2015-12-05-6726825d.pth"),
        ("metrics.networks.inception.InceptionFeatures", "pt_inception-2015-12-05-6726825d.pth"),
        ("metrics.fvd.FrechetVideoDistance", "i3d_torchscript.pt"),
        ("metrics.efid.ExpressionFID", "epoch_20.pth"),
        ("metrics.functional.sync.sync_scores", "syncnet_v2.model"),
        ("metrics.functional.face_detection.detect_faces", "sfd_face.pth"),
        pytest.param("metrics.sync.SyncConfidenceDistance", "syncnet_v2.model", marks=pytest.mark.nightly),
    ],
)
def test_docstring_example_runs(place, file, rule_weights, assets, folder):
    if place == "metrics.sync.SyncConfidenceDistance":
        pytest.importorskip("cv2")
    if file:
        tensors = rule_weights(FILES[file])
        torch.save({"net_recon": tensors} if file == "epoch_20.pth" else tensors, folder / file)
    module, _, name = place.rpartition(".")
    documented = getattr(importlib.import_module(module), name)
    space = names(assets, folder, "syncnet" if "sync" in module else None)
    if place.endswith("sync_scores"):
        run("from metrics.functional.sync import *\nfrom metrics.networks.syncnet import SyncNet\n", space)
        run('network = SyncNet("syncnet_v2.model")', space)
    examples = doctest.DocTestParser().get_examples(documented.__doc__)
    assert len(examples) >= 2
    for example in examples[:-1]:
        run(example.source, space)
    result = eval(examples[-1].source, space)  # the last statement of every example is an expression
    if examples[-1].want.strip() in ("True", "tensor(True)", "torch.Size([1, 2048])"):
        assert repr(result) == examples[-1].want.strip()
    elif isinstance(result, np.ndarray):
        assert result.shape[1] == 5
    else:
        values = result.values() if isinstance(result, dict) else [result]
        assert all(np.isfinite(float(value)) for value in values)


def run(source, space):
    exec(compile(source, "<example>", "exec"), space)
