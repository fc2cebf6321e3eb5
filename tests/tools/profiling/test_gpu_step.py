"""The script for a GPU runs on a CPU, on the smallest network, and says what it does not know."""

import subprocess
import sys

import pytest

from configs.errors import ConfigError
from tools.profiling.gpu_step import main


@pytest.mark.nightly
def test_the_smallest_step_is_measured_and_profiled():
    typed = ["tiny=yes", "presets=cpu,nowhere", "steps=2", "profile=yes"]
    command = [sys.executable, "-m", "tools.profiling.gpu_step", *typed]
    done = subprocess.run(command, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["preset", "s/step", "slowest", "GiB", "counted", "TFLOP", "MFU"]
    preset, seconds, slowest, peak, counted, *_ = lines[1].split()
    assert preset == "cpu", done.stdout + done.stderr
    assert 0 < float(seconds) <= float(slowest)
    assert float(peak) > 0
    assert float(counted) > 0
    assert lines[2].startswith("nowhere              failed: ")
    assert "aten::" in done.stdout
    assert done.returncode == 1  # the number of presets that failed


def test_an_option_it_does_not_know_is_refused():
    with pytest.raises(ConfigError, match=r"stps=2: did you mean steps=\? expected presets=..., steps=..."):
        main(["stps=2"])
