"""Sweeps with Hydra's submitit launcher on a real SLURM: one job and one run directory for each run."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from tests.helpers import ROOT
from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="needs pip install '.[sweep]'"),
]


def test_each_run_has_a_job_and_a_failure_is_reported(cluster, tmp_path):
    make_shards(tmp_path / "shards", frames=(30, 40), splits=("train", "train", "val"))
    command = [
        sys.executable, "train.py", "-m", "hydra/launcher=slurm", f"hydra.sweep.dir={tmp_path}/sweep",
        "hydra.launcher.gpus_per_node=0", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=20",
        "experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=1", "ckpt_path=last", "model.club.weight=0,-1",
        f"data.root={tmp_path}/shards", f"output={tmp_path}/runs",
    ]  # fmt: skip
    environment = {**cluster.environment, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    (run,) = (tmp_path / "runs" / "vaid").iterdir()
    assert OmegaConf.load(run / "config.yaml").model.club.weight == 0
    assert (run / "checkpoints" / "last.ckpt").exists()
    start = json.loads((run / "starts.jsonl").read_text())
    assert start["slurm"]["job_name"] == "emotivetalk-sweep"
    assert start["slurm"]["array_task_id"] == "0"
    assert done.returncode == 1
    assert "error: model.club.weight=-1.0: expected 0 or more" in done.stderr
