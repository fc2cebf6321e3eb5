"""Sample videos and evaluations during training: their files, and that they do not affect training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from callbacks.evaluation import Evaluation
from callbacks.sample_videos import COLUMNS, heat_map
from configs.errors import ConfigError
from configs.rules import check
from datamodules.mixture import datamodule
from media import probe, read_frames
from tests.helpers.synthetic_videos import untrained
from tests.helpers.train_config import logged, train_config, train_ethd
from training.stages.ethd import video_callbacks
from training.stages.stage import device_of

SIDE = 32
FRAMES = 20


def run(shards, vaid, output, *changes):
    changes = ("trainer.validate_every=2", "model.sampling_steps=2", *changes)
    return train_ethd(shards, vaid, output, *changes, steps=4)


@pytest.mark.slow
def test_sample_videos_and_evaluations_do_not_affect_training(codec_shards, codec_vaid, tmp_path):
    files = untrained(tmp_path)
    plain = run(codec_shards, codec_vaid, tmp_path, "run_id=plain")
    shown = run(
        codec_shards, codec_vaid, tmp_path, "run_id=shown", "videos.sample_every=2", "videos.sample_clips=1",
        "videos.evaluate_every=2", "videos.evaluate_clips=2", f"videos.frames={FRAMES}", "videos.metrics=[fid,fvd]",
        "videos.fid.network=proxy", f"videos.fid.weights={files['image']}",
        "videos.fvd.network=proxy", f"videos.fvd.weights={files['video']}",
    )  # fmt: skip
    for column in ("train/loss", "val/loss"):
        assert logged(shown.folder, column) == logged(plain.folder, column)
    assert len(set(logged(plain.folder, "train/loss").values())) == 4

    assert sorted(path.name for path in (shown.folder / "samples").iterdir()) == ["0000002", "0000004"]
    video = next((shown.folder / "samples" / "0000002").glob("*.mp4"))
    info = probe(video)
    assert (info.width, info.height, info.has_sound) == (2 * SIDE, SIDE, True)
    assert len(list(read_frames(video))) == FRAMES
    # Rows: true clip, both, lips, expression.
    assert Image.open(video.with_suffix(".png")).size == ((COLUMNS + 1) * SIDE, 4 * SIDE)

    folder = shown.folder / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "0000002", "0000002.json", "0000004", "0000004.json", "features", "reference",
    ]  # fmt: skip
    found = [json.loads((folder / f"000000{step}.json").read_text()) for step in (2, 4)]
    assert [results["n"] for results in found] == [2, 2]
    for name in ("fid", "fvd"):
        assert [float(value) for value in logged(shown.folder, f"val/{name}_proxy").values()] == pytest.approx(
            [results["metrics"][name]["value"] for results in found], rel=1e-6
        )
    assert found[0]["metrics"]["fid"]["value"] != found[1]["metrics"]["fid"]["value"]


def test_a_heat_map_is_black_without_a_difference():
    reference = np.full((8, 8, 3), 100, np.uint8)
    video = np.repeat(reference[None], 5, axis=0)
    video[:, :, :4] += 120
    found = heat_map(video, reference)
    assert (found[:, 4:] == 0).all()
    assert (found[:, 0] > 0).any()
    assert found[0, 0].tolist() == [255, 255, 255] or found[0, 0, 0] == 255


def test_videos_of_another_stage_are_rejected():
    with pytest.raises(ConfigError, match="stage=vaid makes no videos"):
        check(train_config("experiment=vaid/tiny", "data.root=a", "videos.sample_every=5"))


@pytest.mark.parametrize("rank", [0, 1, 7])
def test_the_codec_is_built_on_the_device_of_the_process(codec_shards, tmp_path, monkeypatch, rank):
    """Simulated ranks of a machine with GPUs: nothing is built before a rank has its device."""
    devices = []
    monkeypatch.setattr("encoders.factory.build_as", lambda kind, identity, device: devices.append(device) or kind)
    config = train_config(
        "experiment=ethd/tiny", "vaid=v", "data=folder", f"data.root={codec_shards}", "videos.sample_every=2",
        "videos.evaluate_every=2", "trainer.accelerator=gpu", "trainer.devices=auto",
    )  # fmt: skip
    data = datamodule(config.data)
    data.setup()
    callbacks = video_callbacks(config, data, tmp_path)
    assert (len(callbacks), devices) == (2, [])
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda", rank)))
    for callback in callbacks:
        callback.setup(trainer, None, "fit")
    assert devices == [f"cuda:{rank}"]  # one codec for both


@pytest.mark.parametrize(
    ("devices", "environment", "expected"),
    [
        ("auto", {}, "cuda:0"),
        ("8", {"LOCAL_RANK": "3"}, "cuda:3"),
        ("auto", {"SLURM_LOCALID": "5"}, "cuda:5"),
        ("4,6", {"LOCAL_RANK": "1"}, "cuda:6"),
        ("-1", {"LOCAL_RANK": "2"}, "cuda:2"),
    ],
)
def test_networks_that_are_used_before_the_start_have_the_device_of_their_process(
    devices, environment, expected, monkeypatch
):
    monkeypatch.setattr("training.stages.stage.resolve_device", lambda name: "cuda")
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = train_config("experiment=emotion/tiny", "data.root=a", "trainer.accelerator=gpu")
    config.trainer.devices = devices
    assert device_of(config) == expected


def test_evaluation_replaces_videos_of_an_earlier_process(tmp_path):
    made, real = (tmp_path / "evaluation" / name for name in ("0000004", "reference"))
    evaluation = Evaluation(tmp_path, maker=None, every=1, config=None)
    for written, kept in ((False, set()), (True, {"reference"})):
        for folder in (made, real):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "old.mp4").write_bytes(b"other clips, length or size")
        evaluation._wrote_reference = written
        evaluation._remove_old(made, real)
        assert {folder.name for folder in (made, real) if folder.exists()} == kept
