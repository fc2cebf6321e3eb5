"""Samples and evaluations in the middle of training: they show the network's videos and leave the training alone."""

import json

import numpy as np
import pytest
from PIL import Image

from callbacks.sample_videos import COLUMNS, heat_map
from configs.errors import ConfigError
from configs.rules import check
from media import probe, read_frames
from tests.helpers.synthetic_videos import untrained
from tests.helpers.train_config import logged, train_config, train_ethd

SIDE = 32
FRAMES = 20


def run(shards, vaid, output, *changes):
    changes = ("trainer.validate_every=2", "model.sampling_steps=2", *changes)
    return train_ethd(shards, vaid, output, *changes, steps=4)


@pytest.mark.slow
def test_training_is_the_same_with_and_without_them(codec_shards, codec_vaid, tmp_path):
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
    # the truth, both drives, the lips alone, the expression alone
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
