"""Curves of guidance: rows as they are measured, files after every row, and runs that cannot be guided."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from configs.generation import GuidanceConfig
from tests.helpers import ROOT, warm
from tests.helpers.ethd_run import write_ethd, write_vaid
from tools.quality.guidance import HEADER, GuidanceRow, draw, settings_of, written


def row(part, scale, emotion):
    people = {"lips_neutral": [0.8, 0.9], "lips_changed": [0.7, 0.8], "emotion": emotion}
    return GuidanceRow(part, scale, people, 1.25)


def test_one_scale_changes_at_a_time():
    found = settings_of([1.0, 2.0], [1.5, 3.0], 0.1, 0.9)
    assert found[0] == ("", 1.0, GuidanceConfig(lips=1.0, expression=1.0))
    assert [(part, scale) for part, scale, _ in found[1:]] == [("expression", 1.5), ("expression", 3.0), ("lips", 2.0)]
    assert found[1][2] == GuidanceConfig(lips=1.0, expression=1.5, low=0.1, high=0.9)
    assert found[3][2] == GuidanceConfig(lips=2.0, expression=1.0, low=0.1, high=0.9)


def test_rows_are_means_over_speakers():
    rows = [row("", 1.0, [0.5, 0.75]), row("expression", 1.5, [0.75, 1.0])]
    assert rows[0].line().split() == ["none", "1", "0.850", "0.750", "0.625", "1.25"]
    assert len(rows[0].line()) == len(HEADER)
    content = written(rows)
    assert content["none"]["emotion"] == 0.625
    assert content["expression"]["1.5"]["emotion"] == 0.875
    assert content["expression"]["1.5"]["people"]["emotion"] == [0.75, 1.0]


def test_the_plot_has_a_panel_for_each_condition(tmp_path):
    draw([row("", 1.0, [0.5, 0.75])], tmp_path / "one.png")
    draw([row("", 1.0, [0.5, 0.75]), row("lips", 2.0, [0.1, 0.1])], tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("one", "two"))
    assert one.shape == two.shape
    assert (one[:, : one.shape[1] // 2] != two[:, : one.shape[1] // 2]).any()


@pytest.fixture(scope="module")
def shards(once):
    """Clips of synthetic speakers, two of them held out."""
    sizes = ("dataset.identities=4", "dataset.clips_per_identity=8", "dataset.seconds=0.5", "store_video=all")

    def make(folder):
        typed = [sys.executable, str(ROOT / "prepare.py"), "dataset=synthetic", "preset=tiny", *sizes]
        done = warm.run([*typed, f"output={folder}/shards"])
        assert done.returncode == 0, done.stderr

    return once("guidance_shards", make) / "shards"


def measure(run, shards, *keys):
    return warm.run([sys.executable, "-m", "tools.quality.guidance", str(run), str(shards), *keys])


@pytest.mark.slow
def test_a_run_is_measured(shards, encoders, tmp_path):
    vaid = write_vaid(tmp_path / "vaid", *encoders)
    dropout = {"lip_dropout": 0.1, "expression_dropout": 0.1}
    run = write_ethd(tmp_path / "guided", vaid, *encoders, **dropout)
    keys = (f"output={tmp_path / 'out'}", "lips=2", "expression=3", "people=1", "frames=8", "steps=2")
    done = measure(run, shards, *keys)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == HEADER
    assert [line.split()[:2] for line in lines[1:]] == [["none", "1"], ["expression", "3"], ["lips", "2"]]
    content = json.loads((tmp_path / "out" / "guidance.json").read_text())
    assert content["settings"]["frames"] == 8
    assert len(content["settings"]["speakers"]) == 1
    assert content["none"]["lips_neutral"] != content["lips"]["2"]["lips_neutral"]
    Image.open(tmp_path / "out" / "guidance.png").verify()

    for changed, words in (
        (("lips=11",), "lips=11: expected a number from 0 to 10"),
        (("low=0.5", "high=0.5"), "guidance.low=0.5: expected less than guidance.high=0.5"),
    ):
        done = measure(run, shards, *keys, *changed)
        assert done.returncode
        assert words in done.stderr
    plain = write_ethd(tmp_path / "plain", vaid, *encoders)
    done = measure(plain, shards, *keys)
    assert done.returncode
    assert "this network was trained with model.expression_dropout=0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout
