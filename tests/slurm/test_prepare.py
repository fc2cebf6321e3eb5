"""slurm/prepare.sbatch on a real SLURM: parts, one of them killed, give the bytes of a single process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT, warm

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

SETTINGS = (
    "dataset=synthetic", "preset=tiny", "dataset.identities=2", "dataset.clips_per_identity=2", "dataset.seconds=1.5",
    "dataset.size=64", "frame_size=32", "shard_bytes=1000", "workers=1", "device=cpu",
)  # fmt: skip


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in [*folder.glob("*.tar"), folder / "index.json"]}


def test_four_parts_with_one_killed_give_the_bytes_of_one_process(cluster, job_environment, tmp_path):
    parts = tmp_path / "parts"
    job = cluster.submit(
        "--array=1-4", "--gpus-per-node=0", "--cpus-per-task=1", "--mem=0", "--time=60", f"--output={tmp_path}/%A_%a",
        "slurm/prepare.sbatch", *SETTINGS, f"output={parts}", env=job_environment, cwd=ROOT,
    )  # fmt: skip
    cluster.until((parts / "parts" / "plan.json").exists, "the plan", 900)
    cluster.until(lambda: cluster.job(f"{job}_2")["JobState"] == "RUNNING", "the second part", 900)
    cluster.run("scontrol", "requeue", f"{job}_2")  # kills its processes at any point
    assert cluster.wait(job, 900) == ["COMPLETED"] * 4, "".join(log.read_text() for log in tmp_path.glob(f"{job}_*"))
    assert cluster.job(f"{job}_2")["Restarts"] == "1"

    alone = tmp_path / "alone"
    command = [sys.executable, "prepare.py", *SETTINGS, f"output={alone}"]
    done = warm.run(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert len(content(alone)) >= 5
    assert content(parts) == content(alone)
