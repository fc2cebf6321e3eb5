"""Curves of guidance: rows as they are measured, files after every row, and runs that cannot be guided."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from configs.errors import ConfigError
from configs.generation import GuidanceConfig
from lightning_modules.ethd.guidance import GuidanceError
from tests.helpers import ROOT, warm
from tests.helpers.ethd_run import write_ethd, write_vaid
from tools.quality.guidance import HEADER, GuidanceRow, draw, of_key, pair, report, settings_of, written


def row(lips, expression, emotion):
    people = {"lips_neutral": [0.8, 0.9], "lips_changed": [0.7, 0.8], "emotion": emotion}
    return GuidanceRow(GuidanceConfig(lips=lips, expression=expression), people, 1.25)


def test_one_scale_changes_at_a_time_or_both():
    found = settings_of([1.0, 2.0], [1.5, 3.0], [(1.5, 2.0)], 0.1, 0.9)
    scales = [(1.0, 1.5), (1.0, 3.0), (2.0, 1.0), (1.5, 2.0)]
    assert found[0] == GuidanceConfig(lips=1.0, expression=1.0)
    assert found[1:] == [GuidanceConfig(lips=a, expression=b, low=0.1, high=0.9) for a, b in scales]


def test_rows_are_means_over_speakers():
    rows = [row(1.0, 1.0, [0.5, 0.75]), row(1.0, 1.5, [0.75, 1.0]), row(1.5, 2.0, [1.0, 1.0])]
    assert rows[0].line().split() == ["none", "1", "0.850", "0.750", "0.625", "1.25"]
    assert rows[2].line().split()[:2] == ["both", "1.5:2"]
    assert {len(one.line()) for one in rows} == {len(HEADER)}
    content = written(rows)
    assert content["none"]["emotion"] == 0.625
    assert content["expression"]["1.5"]["emotion"] == 0.875
    assert content["expression"]["1.5"]["people"]["emotion"] == [0.75, 1.0]
    assert content["both"]["1.5:2"]["emotion"] == 1


def test_the_plot_has_a_panel_for_each_condition(tmp_path):
    draw([row(1.0, 1.0, [0.5, 0.75])], tmp_path / "one.png")
    draw([row(1.0, 1.0, [0.5, 0.75]), row(2.0, 1.0, [0.1, 0.1])], tmp_path / "two.png")
    one, two = (np.asarray(Image.open(tmp_path / f"{name}.png")) for name in ("one", "two"))
    assert one.shape == two.shape
    assert (one[:, : one.shape[1] // 2] != two[:, : one.shape[1] // 2]).any()


@pytest.fixture(scope="module")
def shards(once):
    """Clips of synthetic speakers, two of them held out."""
    sizes = ("dataset.identities=4", "dataset.clips_per_identity=8", "dataset.seconds=1", "store_video=all")

    def make(folder):
        typed = [sys.executable, str(ROOT / "prepare.py"), "dataset=synthetic", "preset=tiny", *sizes]
        done = warm.run([*typed, f"output={folder}/shards"])
        assert done.returncode == 0, done.stderr

    return once("guidance_shards", make) / "shards"


@pytest.mark.slow
@pytest.mark.timeout(900)  # prepares 32 clips
def test_a_run_is_measured(shards, encoders, tmp_path, capsys):
    vaid = write_vaid(tmp_path / "vaid", *encoders)
    run = write_ethd(tmp_path / "guided", vaid, *encoders, lip_dropout=0.1, expression_dropout=0.1)
    options = {"lips": [2.0], "expression": [3.0], "both": [(1.5, 2.0)], "people": 1, "frames": 8, "steps": 2}
    report(str(run), str(shards), tmp_path / "out", **options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5] == HEADER
    rows = [["none", "1"], ["expression", "3"], ["lips", "2"], ["both", "1.5:2"]]
    assert [line.split()[:2] for line in lines[-4:]] == rows
    content = json.loads((tmp_path / "out" / "guidance.json").read_text())
    assert content["settings"]["frames"] == 8
    assert len(content["settings"]["speakers"]) == 1
    assert content["none"]["lips_neutral"] != content["lips"]["2"]["lips_neutral"]
    Image.open(tmp_path / "out" / "guidance.png").verify()

    plain = write_ethd(tmp_path / "plain", vaid, *encoders)
    with pytest.raises(GuidanceError, match=r"was trained with model\.expression_dropout=0"):
        report(str(plain), str(shards), tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_scales_and_intervals_have_limits(tmp_path):
    assert of_key("lips")("1.5") == 1.5
    with pytest.raises(ValueError, match="expected a number from 0 to 10"):
        of_key("lips")("11")
    assert pair("1.5:2") == (1.5, 2.0)
    for wrong, message in (("2", "expected LIPS:EXPRESSION, e.g. 1.5:2, found '2'"), ("1:11", "from 0 to 10")):
        with pytest.raises(ValueError, match=message):
            pair(wrong)
    with pytest.raises(ConfigError, match=r"guidance\.low=0\.5: expected less than guidance\.high=0\.5"):
        report("run", "shards", tmp_path, low=0.5, high=0.5)
