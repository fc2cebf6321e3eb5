"""Threads that wait without using the processor, and their number in a container."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import platforms
from runtime.threads import NUMBER, WAITING, share_cores
from tests.helpers import ROOT

CHOSEN = (*WAITING, *NUMBER)
# Ends a process with what torch would read from the environment when it is imported.
AT_TORCH = """
import os, sys

class AtTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("torch", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)

sys.meta_path.insert(0, AtTorch())
"""
# Loads torch, whose OpenMP then prints what it has read (OMP_DISPLAY_ENV).
LOADED = """
from runtime.threads import share_cores
share_cores()
import torch
torch.ones(1 << 16).exp()
"""


def unset(**values: str) -> dict[str, str]:
    return {**{name: value for name, value in os.environ.items() if name not in CHOSEN}, **values}


def test_threads_sleep_while_they_wait():
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}


@pytest.mark.parametrize("name", WAITING)
def test_what_the_user_set_is_kept(name):
    environment = {name: "1"}
    share_cores(environment)
    assert environment == {name: "1"}


def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, files: dict[str, str]) -> None:
    """Control groups as Linux shows them."""
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    monkeypatch.setattr(platforms, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(platforms, "OWN_CONTROL_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


OF_ONE = {"cpu/docker/a/cpu.cfs_quota_us": "250000\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),  # in a container, which sees its own group as the root
        ("0::/a/b\n", {"a/cpu.max": "350000 100000\n", "a/b/cpu.max": "max 100000\n"}, 4),  # of the parent
        ("0::/\n", {"cpu.max": "max 100000\n"}, 16),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("4:memory:/docker/a\n1:cpu:/docker/a\n0::/\n", OF_ONE, 3),
        ("1:cpu,cpuacct:/docker/a\n", {"cpu,cpuacct/" + name[4:]: text for name, text in OF_ONE.items()}, 3),
        ("1:cpu:/docker/a\n", {name.replace("docker/a/", ""): text for name, text in OF_ONE.items()}, 3),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 16),
        ("0::/\n", {}, 16),
        ("0::/\n", {"cpu.max": "damaged"}, 16),
    ],
)
def test_threads_of_a_container(monkeypatch, tmp_path, own, files, cores):
    groups(tmp_path, monkeypatch, own, files)
    assert platforms.usable_cores() == cores
    environment: dict[str, str] = {}
    share_cores(environment)
    assert environment.get("OMP_NUM_THREADS") == (str(cores) if cores < 16 else None)
    chosen = {"MKL_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}
    share_cores(chosen)
    assert chosen == {"MKL_NUM_THREADS": "5", "OMP_WAIT_POLICY": "ACTIVE"}


def test_without_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(platforms, "OWN_CONTROL_GROUPS", tmp_path / "none")
    assert platforms.usable_cores() == len(os.sched_getaffinity(0))


DOORS = [
    ["generate.py", "portrait=a.png", "speech=a.wav", "output=a.mp4", "ethd=a"],
    ["app.py", "ethd=a"],
    ["evaluate.py", "generated=docs", "reference=docs", "output=TEMPORARY/scores.json"],
    ["prepare.py", "dataset=folder", "source=docs", "output=TEMPORARY", "preset=tiny"],
    ["train.py", "experiment=vaid/tiny", "data.root=docs"],
    ["-m", "tools.doctor"],
    ["-m", "tools.profiling.vaid_step"],
    ["-m", "benchmark.test_sets"],
]


@pytest.mark.slow
@pytest.mark.parametrize("command", DOORS, ids=lambda command: " ".join(command[:2]))
def test_every_command_decides_before_torch_is_imported(tmp_path, command):
    (tmp_path / "sitecustomize.py").write_text(AT_TORCH)
    done = subprocess.run(
        [sys.executable, *(word.replace("TEMPORARY", str(tmp_path)) for word in command)],
        cwd=ROOT, env=unset(PYTHONPATH=str(tmp_path)), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stdout.endswith("torch PASSIVE\n"), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads what libgomp prints")
def test_the_threads_of_torch_have_read_it():
    environment = unset(OMP_DISPLAY_ENV="TRUE")
    done = subprocess.run(
        [sys.executable, "-c", LOADED], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
