"""Proxy networks in evaluate.py: selected by the configuration, labelled in results, uninformative on real videos."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from configs.errors import ConfigError
from configs.rules import check
from evaluation.evaluate_folders import evaluate_folders
from media import read_frames
from metrics.efid import ExpressionFID
from metrics.fid import FrechetInceptionDistance
from metrics.fvd import FrechetVideoDistance
from metrics.networks.proxy import load_proxy
from metrics.sync import SyncConfidenceDistance
from tests.helpers.synthetic_videos import evaluate_config, proxy_settings, untrained, write_clip, write_speakers


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("proxies")
    write_speakers(root / "real", 3)
    write_speakers(root / "made", 3, gain=0.7)
    return root


def configuration(folder, output, **changes):
    keys = {"metrics": ["fid", "fvd", "efid", "sync"], "bootstrap": 0, "cache": str(output / "cache")}
    keys |= proxy_settings(untrained(folder)) | changes
    config = evaluate_config(folder / "made", folder / "real", output / "out.json", **keys)
    check(config)
    return config


def results_in(output):
    return json.loads((output / "out.json").read_text())["metrics"]


@pytest.mark.slow
def test_every_value_is_labelled_as_proxy(folder, tmp_path, capsys):
    assert evaluate_folders(configuration(folder, tmp_path)) == 0
    results = results_in(tmp_path)
    assert set(results) == {"fid", "fvd", "efid", "sync_c", "sync_d"}
    for name, entry in results.items():
        assert entry["official"] is False
        assert "proxy" in entry["title"]
        assert entry["network"].startswith("proxy for")
        assert any("proxy of the metric's network" in text for text in entry["warnings"])
        assert entry["n"] == 3
        assert len(entry["sha256"]) == 64
        if name in ("fid", "fvd", "efid"):
            assert entry["value"] > 1e-6
    assert results["fid"]["samples"] == {"reference": 90, "generated": 90}
    message = capsys.readouterr().out
    assert message.count("proxy") >= 5
    assert "not official" in message
    # The reference videos are synthetic speakers, but an untrained network may not detect the shift.
    assert results["sync_c"]["informative"] == results["sync_c"]["self_check"]["passed"]


@pytest.mark.slow
def test_equal_videos_give_zero_and_fvd_its_floor(folder, tmp_path, capsys):
    config = configuration(folder, tmp_path, metrics=["fid", "fvd", "efid"])
    config.generated = config.reference
    assert evaluate_folders(config) == 0
    results = results_in(tmp_path)
    assert abs(results["fid"]["value"]) <= 1e-6
    assert abs(results["efid"]["value"]) <= 1e-6
    assert results["fvd"]["value"] == results["fvd"]["floor"] > 1e-9  # the reference side starts at random frames
    assert "floor: real videos at both starts" in capsys.readouterr().out

    for number in range(3):  # 16 frames have only one possible start
        frames = list(read_frames(folder / "real" / f"clip{number}.mp4"))[:16]
        write_clip(tmp_path / "short" / f"clip{number}.mp4", frames)
    config.generated = config.reference = str(tmp_path / "short")
    config.metrics = ["fvd"]
    assert evaluate_folders(config) == 0
    fvd = results_in(tmp_path)["fvd"]
    assert (fvd["value"], fvd["floor"]) == pytest.approx((0, 0), abs=1e-9)


@pytest.mark.slow
def test_sync_of_real_people_is_uninformative(folder, tmp_path):
    config = configuration(folder, tmp_path, metrics=["sync"])
    config.reference = str(shutil.copytree(folder / "real", tmp_path / "real"))
    (tmp_path / "real" / "clip1.factors.npz").unlink()
    evaluate_folders(config)
    for entry in results_in(tmp_path).values():
        assert entry["informative"] is False
        assert entry["title"].endswith(", uninformative")
        assert any("1 of 3 reference videos are not synthetic speakers" in text for text in entry["warnings"])


def test_missing_and_wrong_files_are_not_computed(folder, tmp_path):
    files = untrained(folder)
    (tmp_path / "text.safetensors").write_text("no weights")
    wrong = {
        "fid": {"network": "proxy"},
        "fvd": {"network": "proxy", "weights": files["image"]},
        "efid": {"network": "proxy", "weights": str(tmp_path / "text.safetensors"), "landmarks": "sidecar"},
    }
    assert evaluate_folders(configuration(folder, tmp_path, metrics=list(wrong), **wrong)) == 4
    results = results_in(tmp_path)
    assert "needs fid.weights=FILE" in results["fid"]["not_computed"]
    assert "experiment=proxy/image" in results["fid"]["not_computed"]
    assert "has a proxy network of kind image" in results["fvd"]["not_computed"]
    assert "cannot be read as safetensors" in results["efid"]["not_computed"]


def test_metric_names_contain_proxy(folder):
    files = untrained(folder)
    networks = {kind: load_proxy(Path(file), kind)[0] for kind, file in files.items()}
    metrics = (
        FrechetInceptionDistance(networks["image"]),
        FrechetVideoDistance(networks["video"]),
        ExpressionFID(networks["expression"]),
        SyncConfidenceDistance(networks["sync"]),
    )
    for metric in metrics:
        assert "proxy" in metric.name
    for real in (True, False):
        metrics[0].update(torch.randint(0, 256, (9, 3, 40, 40), dtype=torch.uint8), real=real)
    assert float(metrics[0].compute()) > 0


def test_landmark_files_exclude_crop_and_reference_sync(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"add sync\.mode=fast"):
        configuration(folder, tmp_path, sync={"detector": "sidecar"})
    config = configuration(folder, tmp_path)
    config.crop = [0, 0, 32, 32]
    with pytest.raises(ConfigError, match="leave both out"):
        check(config)
