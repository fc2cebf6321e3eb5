"""``python -m benchmark.run_system`` as people type it: what is wrong is one line."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmark import test_sets
from benchmark.runner import run_system
from configs.errors import ConfigError
from configs.rules import check
from configs.systems import RunSystemConfig
from media import read_frames
from tests.helpers import ROOT
from tests.helpers.refusals import refuses


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"cases": "/nowhere.csv"}, "cases=/nowhere.csv: no such file"),
        ({"output": __file__}, "is a file; expected the name of a folder"),
        ({"part": "3/2"}, "part=3/2: expected i/n"),
        ({"device": "gpu"}, "device=gpu: expected one of cuda, cpu"),
        ({"landmarks": "dlib"}, "landmarks=dlib: expected one of mediapipe, sidecar"),
        ({"workers": 0}, "workers=0: expected a number above 0"),
        ({"clip_timeout": float("nan")}, "clip_timeout=nan"),
        ({"system": "folder", "panel": [1, 2, 3]}, "panel=[1, 2, 3]: expected [x,y,width,height]"),
        ({"system": "folder", "offset": -1}, "offset=-1"),
        ({"panel": [0, 0, 8, 8]}, "describe system=folder"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, keys, wanted):
    config = RunSystemConfig(**{"system": "hallo", "cases": __file__, "output": str(tmp_path), **keys})
    refuses(ConfigError, re.escape(wanted), check, config)


@pytest.mark.slow
def test_the_shell_gets_one_line_and_a_status(tmp_path):
    cases = tmp_path / "cases (1), mine.csv"
    cases.write_text("clip,portrait,speech\na,b,c\n")
    typed = ["system=sadtaker", f"cases={cases}", f"output={tmp_path / 'o'}"]
    command = [sys.executable, "-m", "benchmark.run_system", *typed]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "error: system=sadtaker: did you mean sadtalker or anitalker? there are aniportrait"
    )
    assert result.stderr.count("\n") == 1


def test_real_videos_take_another_systems_size_and_stay_synthetic_ones(tmp_path):
    test_sets.main(["synthetic", f"output={tmp_path / 'set'}", "clips=1", "seconds=1"])
    places = {"cases": str(tmp_path / "set" / "cases_AV.csv"), "output": str(tmp_path / "out")}
    config = RunSystemConfig(system="ground_truth", **places, size=48, device="cpu", landmarks="sidecar")
    check(config)
    assert run_system(config) == 0
    (made,) = (tmp_path / "out" / "videos").glob("*.mp4")
    assert next(iter(read_frames(made))).shape == (48, 48, 3)
    assert made.with_suffix(".factors.npz").is_file()
    config.system, config.size = "hallo", 48
    refuses(ConfigError, "size=48: expected an even number from 16, for system=ground_truth alone", check, config)
