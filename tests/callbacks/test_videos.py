"""Samples and evaluations in the middle of training: they show the network's videos and leave the training alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from callbacks.sample_videos import COLUMNS, heat_map
from configs.errors import ConfigError
from configs.rules import check
from datamodules.schema import Index
from encoders.protocols import Identity
from media import probe, read_frames
from tests.helpers.ethd import SMALLEST_ETHD
from tests.helpers.shards import TINY, make_shards
from tests.helpers.synthetic_videos import untrained
from tests.helpers.train_config import SMALLEST, train_config
from tests.training.test_fit import logged
from training.fit import fit

SIDE = 32
FRAMES = 20


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Clips whose latents are those of a real codec."""
    folder = tmp_path_factory.mktemp("data") / "shards"
    dims = replace(TINY, latent_channels=48, latent_size=8)
    index = make_shards(folder, samples=8, shards=1, frames=(30,), splits=("train", "train", "val"), dims=dims)
    encoders = {**index.encoders, "codec": Identity("patch", {"patch": 4})}
    (folder / "index.json").write_text(replace(index, encoders=encoders).to_json())
    assert Index.read(folder).encoders["codec"].options == {"patch": 4}
    return folder


@pytest.fixture(scope="module")
def vaid(shards, tmp_path_factory):
    config = train_config("experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=1", "run_id=v")
    config.data.root, config.output, config.encoders = str(shards), str(tmp_path_factory.mktemp("vaid")), {}
    return fit(config).folder


def run(shards, vaid, output, *changes):
    config = train_config(
        "experiment=ethd/tiny",
        *SMALLEST_ETHD,
        "trainer.max_steps=4",
        "trainer.validate_every=2",
        "model.sampling_steps=2",
        *changes,
    )
    config.data.root, config.output, config.vaid, config.encoders = str(shards), str(output), str(vaid), {}
    check(config)
    return fit(config)


@pytest.mark.slow
def test_training_is_the_same_with_and_without_them(shards, vaid, tmp_path):
    files = untrained(tmp_path)
    plain = run(shards, vaid, tmp_path, "run_id=plain")
    shown = run(
        shards, vaid, tmp_path, "run_id=shown", "videos.sample_every=2", "videos.sample_clips=1",
        "videos.evaluate_every=2", "videos.evaluate_clips=2", f"videos.frames={FRAMES}", "videos.metrics=[fid,fvd]",
        "videos.fid.network=standin", f"videos.fid.weights={files['image']}",
        "videos.fvd.network=standin", f"videos.fvd.weights={files['video']}",
    )  # fmt: skip
    for column in ("train/loss", "val/loss"):
        assert logged(shown.folder, column) == logged(plain.folder, column)
    assert len(set(logged(plain.folder, "train/loss").values())) == 4

    assert sorted(path.name for path in (shown.folder / "samples").iterdir()) == ["0000002", "0000004"]
    video = next((shown.folder / "samples" / "0000002").glob("*.mp4"))
    info = probe(video)
    assert (info.width, info.height, info.has_sound) == (2 * SIDE, SIDE, True)
    assert len(list(read_frames(video))) == FRAMES
    # the truth, both drives, the lips alone, the expression alone
    assert Image.open(video.with_suffix(".png")).size == ((COLUMNS + 1) * SIDE, 4 * SIDE)

    folder = shown.folder / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == [
        "0000002", "0000002.json", "0000004", "0000004.json", "features", "reference",
    ]  # fmt: skip
    found = [json.loads((folder / f"000000{step}.json").read_text()) for step in (2, 4)]
    assert [results["n"] for results in found] == [2, 2]
    for name in ("fid", "fvd"):
        values = logged(shown.folder, f"val/{name}_standin")
        assert [float(value) for value in values.values()] == pytest.approx(
            [results["metrics"][name]["value"] for results in found], rel=1e-6
        )
    assert found[0]["metrics"]["fid"]["value"] != found[1]["metrics"]["fid"]["value"]


def test_a_heat_map_is_black_where_nothing_differs():
    reference = np.full((8, 8, 3), 100, np.uint8)
    video = np.repeat(reference[None], 5, axis=0)
    video[:, :, :4] += 120
    found = heat_map(video, reference)
    assert (found[:, 4:] == 0).all()
    assert (found[:, 0] > 0).any()
    assert found[0, 0].tolist() == [255, 255, 255] or found[0, 0, 0] == 255


def test_other_stages_make_no_videos():
    with pytest.raises(ConfigError, match="stage=vaid makes no videos"):
        check(train_config("experiment=vaid/tiny", "data.root=a", "videos.sample_every=5"))
