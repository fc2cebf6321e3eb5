"""Portraits, speech and true videos of raw videos, one of which was prepared in pieces."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from configs.command_line import compose
from configs.preparation import PrepareConfig
from media import FrameReader
from prepare import prepare
from tests.helpers.synthetic_videos import write_speakers
from tools.demo.demo_inputs import main

KEYS = ("dataset=folder", "preset=tiny", "dataset.split=train", "max_seconds=1", "store_video=all", "workers=1")


@pytest.mark.slow
def test_portraits_are_frames_of_the_raw_video(tmp_path):
    raw, shards, cases = (tmp_path / name for name in ("raw [1]", "shards", "cases"))
    write_speakers(raw, clips=2, seconds=2.0)
    assert prepare(compose("prepare", PrepareConfig, [*KEYS, f"source={raw}", f"output={shards}"])) == 0
    main([f"shards={shards}", f"source={raw}", f"output={cases}"])
    asked = json.loads((cases / "cases.json").read_text())["asked"]
    assert [one["name"] for one in asked if one["true"]] == ["seen/clip0---000", "seen/clip1---000", "long"]
    with (cases / "batch.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all((cases / row[column]).is_file() for row in rows for column in ("portrait", "speech"))
    first = next(iter(FrameReader(raw / "clip0.mp4", fps=25)))
    assert np.array_equal(np.asarray(Image.open(cases / rows[0]["portrait"])), first)
