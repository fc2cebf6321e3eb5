"""Training of the proxy networks, and the loss of SyncNet's proxy against a direct computation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from configs.errors import ConfigError
from configs.proxy import ProxyConfig
from configs.rules import check
from encoders.landmarks.boxes import face_boxes
from lightning_modules.proxy.proxy_tasks import SyncTask
from metrics.functional.sync import audio_windows, sync_windows
from metrics.networks.proxy import HEADER, load_proxy, new_proxy
from preparation.synthetic import identity, render_clip
from runtime.errors import UserError
from tests.helpers import ROOT
from tests.helpers.refusals import refuses
from tests.helpers.shards import make_shards
from tests.helpers.train_config import train_config
from training.fit import fit

pytestmark = pytest.mark.slow

SMALLEST = {
    "sync": ("model.options={width:0.03125,stride:4}", "model.min_track=2", "model.min_face=4"),
    "image": ("model.options={width:4,dimensions:6}",),
    "video": ("model.options={width:4,dimensions:6}",),
    "expression": ("model.options={width:4}", "model.factors=[c,a]"),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "shards"
    make_shards(folder, samples=6, shards=1, splits=("train", "train", "val"), video=True, dataset="synthetic")
    return folder


def settings(kind, shards, output, *changes):
    return train_config(
        f"experiment=proxy/{kind}", f"data.root={shards}", f"output={output}", "run_id=a", "trainer.max_steps=3",
        "trainer.validate_every=3", "trainer.validation_clips=2", "trainer.progress_bar=false", "data.workers=0",
        "data.batch_size=2", "data.steps_per_epoch=3", *SMALLEST[kind], *changes,
    )  # fmt: skip


@pytest.mark.parametrize("kind", SMALLEST)
def test_a_run_leaves_a_file_that_loads_with_its_info(kind, shards, tmp_path):
    config = settings(kind, shards, tmp_path)
    check(config)
    done = fit(config)
    path = done.folder / f"proxy_{kind}.safetensors"
    as_another = f"has a proxy network of kind {kind}; expected a file written by train.py"
    network, info = load_proxy(path, kind)
    assert (info.kind, info.dataset, info.clips, info.steps) == (kind, "synthetic", 4, 3)
    assert np.isfinite([*info.scores.values()]).sum() == len(info.scores) > 0
    assert network.provenance.sha256 is not None
    assert not any(parameter.requires_grad for parameter in network.parameters())
    trained = done.module.task.network.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in network.state_dict().items())
    refuses(ValueError, as_another, load_proxy, path, "image" if kind != "image" else "video")
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()[HEADER])["version"] == 1


def test_missing_data_is_named(shards, tmp_path):
    with pytest.raises(UserError, match=r"no factor smile \(found a, b, c\)"):
        fit(settings("expression", shards, tmp_path, "model.factors=[smile]"))
    make_shards(tmp_path / "bare", samples=2, shards=1)
    with pytest.raises(UserError, match="2 of 2 training clips have no stored video.*store_video=all"):
        fit(settings("image", tmp_path / "bare", tmp_path, "data.name=folder"))
    with pytest.raises(UserError, match=r"no face track in clip_.*lower model\.min_face=200"):
        fit(settings("sync", shards, tmp_path, "model.min_face=200"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.kind=smell", r"model\.kind=smell"),
        ("data.fields=[video]", r"data\.fields.*also needs boxes, speech"),
        ("model.lr=0", r"model\.lr=0"),
    ],
)
def test_invalid_configurations_are_rejected(change, message):
    with pytest.raises(ConfigError, match=message):
        check(train_config("experiment=proxy/sync", "data.root=a", change))


@pytest.mark.parametrize("kind", SMALLEST)
def test_every_experiment_states_cost_result_and_command(kind):
    check(train_config(f"experiment=proxy/{kind}", "data.root=a"))
    head = (ROOT / f"configs/experiment/proxy/{kind}.yaml").read_text().split("defaults:")[0]
    assert {"Cost:", "Result:", "Command:"} <= set(head.split())


def batch_of(clip):
    """Batch of one synthetic clip, as a data module returns it."""
    boxes = face_boxes(clip.landmarks, "ibug68", size=(clip.size, clip.size))
    arrays = {"video": np.stack(list(clip.frames())), "boxes": boxes, "speech": clip.sound}
    batch = {"key": ["clip"], "draw": torch.tensor([0]), "frames": torch.tensor([len(boxes)])}
    return batch | {name: torch.from_numpy(array)[None] for name, array in arrays.items()}


def test_sync_loss_equals_info_nce_of_the_embeddings():
    torch.manual_seed(0)
    task = SyncTask(new_proxy("sync", width=1 / 32, stride=4), ProxyConfig(min_track=10), seed=0).eval()
    batch = batch_of(render_clip(identity(0), "happy", 1, 5, 1.2, 64))
    track = task._track(batch, 0)
    windows = sync_windows(len(track.frames), len(track.samples))
    lip = task.network.lip(track.frames[: windows + 4])
    sound = task.network.audio(audio_windows(track.samples, windows))
    logits = -torch.linalg.vector_norm(lip[:, None] - sound[None], dim=-1).double()
    expected = -(logits.log_softmax(1).diagonal().mean() + logits.log_softmax(0).diagonal().mean()) / 2
    assert float(task(batch).loss.detach()) == pytest.approx(float(expected), rel=1e-4)
