"""Short real clips with sound, and weight files whose tensors are computed from their names."""

import importlib.util
import json

import pytest
import torch

from evaluation.evaluate_folders import evaluate_folders
from media import read_frames, read_sound
from tests.helpers.synthetic_videos import evaluate_config, write_clip

FRAMES = 30
NETWORKS = {
    "inception": "fid_inception_v3",
    "i3d": "i3d_hassony2_I3D",
    "syncnet": "syncnet_S",
    "deep3d": "deep3d_ReconNetWrapper_resnet50",
}


@pytest.fixture(scope="session")
def speakers(assets):
    """(frames, sound) of three parts of a real video, each 30 frames of 256 pixels."""
    video = assets / "data" / "video" / "hdtf_WDA_AOC_000.mp4"
    pieces = []
    for start in (0.0, 2.0, 4.0):
        span = {"start": start, "end": start + FRAMES / 25}
        frames = [frame[::2, ::2] for frame in read_frames(video, **span)]
        pieces.append((frames, read_sound(video, **span)))
    return pieces


@pytest.fixture(scope="session")
def talks(speakers, tmp_path_factory):
    """Folder of these parts as videos."""
    folder = tmp_path_factory.mktemp("talks")
    for number, (frames, sound) in enumerate(speakers):
        write_clip(folder / f"talk{number}.mp4", frames, sound)
    return folder


@pytest.fixture(scope="session")
def rule_files(assets, tmp_path_factory):
    """Function from a network's name to a checkpoint file with the official file's names and shapes."""
    spec = importlib.util.spec_from_file_location("rule_weights", assets / "oracle" / "rule_weights.py")
    rules = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rules)
    folder = tmp_path_factory.mktemp("weights")

    def file(name):
        path = folder / f"{name}.pth"
        if not path.exists():
            keys = json.loads((assets / "oracle" / "keys" / f"{NETWORKS[name]}.json").read_text())["keys"]
            tensors = {
                key: torch.from_numpy(rules.rule_tensor(key, shape).copy()).to(getattr(torch, dtype))
                for key, shape, dtype in keys
            }
            torch.save({"net_recon": tensors} if name == "deep3d" else tensors, path)
        return str(path)

    return file


@pytest.fixture
def evaluate(tmp_path, asset_weights):
    """Function ``evaluate(generated, reference, **keys)`` that returns the exit status and the results."""

    def run(generated, reference, **keys):
        output = tmp_path / "results" / "out.json"
        keys = {"efid": {"network": "3ddfa"}, "cache": str(tmp_path / "cache"), "bootstrap": 10, **keys}
        return evaluate_folders(evaluate_config(generated, reference, output, **keys)), json.loads(output.read_text())

    return run
