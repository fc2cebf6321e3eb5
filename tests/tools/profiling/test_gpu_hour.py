"""The GPU script at reduced size on a CPU, with no other packages than it names and no network; limits of its rows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.platforms import process_is_gone
from tools.profiling.gpu_profile import shares

ROOT = Path(__file__).parents[3]
PACKAGES = "torch,lightning,torchmetrics,transformers,diffusers,hydra-core,omegaconf,deepspeed,webdataset"
VALUES = {  # row -> values that it measures
    "step": ["step 1", "seconds", "slowest", "peak_gib", "mfu", "counted_gib"],
    "sample": ["window of 4, 2 steps", "every other step", "peak"],
    "profile": ["matrix product", "convolution", "attention"],
    "vaid": ["e_a, 25 steps"],
    "vae": [f"{way} a frame, {dtype}" for way in ("encode", "decode") for dtype in ("float32", "bfloat16")],
    "px1024": ["forward and backward, 2 frames", "peak, without states", "counted, with states"],
    "zero2": ["step 1", "seconds", "slowest", "peak_gib", "mfu", "counted_gib"],
    "compile": [f"{name}{suffix}" for suffix in ("", ", compiling", ", compiled")
                for name in ("VideoResidualBlock._over_space", "SpatioTemporalTransformer._attend_space",
                             "TemporalBlock.attend", "UNet._head")],
}  # fmt: skip


def gpu_hour(folder: Path, python: Path, **variables: str) -> subprocess.CompletedProcess:
    environment = os.environ | {"python": str(python), "results": str(folder / "results.txt"), **variables}
    command = ["bash", str(ROOT / "tools/profiling/gpu_hour.sh")]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.nightly
def test_every_row_is_measured_at_reduced_size_without_other_packages_and_network(tmp_path):
    only = f'exec {sys.executable} {ROOT}/tests/helpers/only_packages.py {PACKAGES} "$@"'
    done = gpu_hour(tmp_path, program(tmp_path / "python", only), reduced="yes")
    assert done.returncode == 0, done.stdout + "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert (tmp_path / "results.txt").read_text() == done.stdout
    for row, names in VALUES.items():
        lines = [line.removeprefix(f"{row:8} ") for line in done.stdout.splitlines() if line.startswith(f"{row} ")]
        for name in [*names, "the whole row"]:
            (line,) = [line for line in lines if line.startswith(f"{name:36} ")]
            assert float(line.removeprefix(f"{name:36} ").split()[0]) >= 0
    assert not list(tmp_path.glob("*.log"))


@pytest.mark.slow
def test_a_row_over_its_limit_is_ended_with_its_processes_and_the_next_goes_on(tmp_path):
    body = """
    case $3 in
      row=step) echo "step measured"; sleep 600 & echo $! > child; wait;;
      row=sample) echo "sample measured"; echo broken >&2; exit 3;;
      *) echo "${3#row=} measured";;
    esac"""
    done = gpu_hour(
        tmp_path, program(tmp_path / "python", f"cd {tmp_path}\n{body}"), rows="step sample vae", limit_step="1"
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "step measured"
    assert lines[1] == f"step took longer than its limit of 1 s; see {tmp_path}/results.txt.step.log"
    assert lines[2:4] == ["sample measured", f"sample failed with status 3; see {tmp_path}/results.txt.sample.log"]
    assert lines[4] == "vae measured"
    assert lines[5].split()[:4] == ["vae", "the", "whole", "row"]
    assert done.returncode == 2  # the number of rows that failed
    assert (tmp_path / "results.txt").read_text() == done.stdout
    assert (tmp_path / "results.txt.sample.log").read_text() == "broken\n"
    assert process_is_gone(int((tmp_path / "child").read_text()))


def test_all_rows_together_take_at_most_15_minutes_and_the_first_two_four():
    text = (ROOT / "tools/profiling/gpu_hour.sh").read_text()
    limits = dict(each.removeprefix("[").split("]=") for each in text.split("limit=(")[1].split(")")[0].split())
    assert set(limits) == set(VALUES)
    assert sum(map(int, limits.values())) <= 15 * 60
    assert int(limits["step"]) + int(limits["sample"]) <= 4 * 60


def test_shares_of_a_step_are_those_of_kinds_and_of_other_operators():
    times = {"aten::mm": 30.0, "aten::addmm": 10.0, "aten::cudnn_convolution": 20.0, "aten::convolution_backward": 10.0,
             "aten::_flash_attention_forward": 10.0, "aten::copy_": 15.0, "aten::add": 5.0}  # fmt: skip
    found = shares(times)
    assert found == pytest.approx(
        {"matrix product": 0.4, "convolution": 0.3, "attention": 0.1, "aten::copy_": 0.15, "aten::add": 0.05}
    )
    assert list(found) == ["matrix product", "convolution", "aten::copy_", "attention", "aten::add"]
