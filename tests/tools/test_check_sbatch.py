"""``make slurm-check``: valid batch files pass, and every mistake is named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT


def check(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, str(folder / "tools" / "check_sbatch.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**(env or os.environ), "PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_the_files_pass_slurms_own_check_and_their_commands_are_shown(cluster):
    here = "--nodes=1 --ntasks-per-node=1 --gpus-per-node=1 --cpus-per-task=1 --mem=0"
    done = check(ROOT, f"sbatch={here}", env=cluster.environment)
    assert done.returncode == 0, done.stderr
    assert "srun --kill-on-bad-exit=1 python train.py ckpt_path=last trainer.nodes=2 trainer.devices=" in done.stdout
    assert "part=2/16" in done.stdout
    assert "output=results/emotivetalk_hdtf.json" in done.stdout
    assert done.stdout.count("Job ") == len(list((ROOT / "slurm").glob("*.sbatch")))


@pytest.mark.slow
def test_each_mistake_is_named(tmp_path):
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "check_sbatch.py", tmp_path / "tools")
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    mistakes = {
        "train": {
            "--signal=USR2@300": ("--signal=B:USR2@300", "--signal=B:...: reaches only the batch script"),
            "--gpus-per-node=8": ("--gpus-per-task=1", "--gpus-per-task: unknown option"),
            "--job-name=emotivetalk-train": ("--job-name=bash", "--job-name=bash: Lightning treats such a job"),
            "run_id=paper": ("runid=paper", "Could not override 'runid'"),
        },
        "prepare": {
            "--output=%x-%A_%a.txt": ("--output=log.txt", "--output=log.txt: expected %j or %A_%a"),
            "#SBATCH --requeue\n": ("", "needs --requeue"),
            'exec srun python prepare.py "$@"': ('if exec srun python prepare.py "$@"', "bash: slurm/prepare"),
        },
    }
    for name, changes in mistakes.items():
        file = tmp_path / "slurm" / f"{name}.sbatch"
        text = file.read_text()
        for right, (wrong, _) in changes.items():
            assert right in text
            text = text.replace(right, wrong, 1)
        file.write_text(text)
    done = check(tmp_path)
    assert done.returncode == 1
    for name, changes in mistakes.items():
        for _, message in changes.values():
            printed = [line for line in done.stderr.splitlines() if line.startswith(f"{name}.sbatch: ")]
            assert any(message.split(":")[0] in line for line in printed), (message, done.stderr)
