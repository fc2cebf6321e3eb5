"""slurm/train.sbatch on a real SLURM: preempted jobs are requeued and log every step once."""

from __future__ import annotations

import importlib.util

import pytest

from tests.helpers import ROOT
from tests.helpers.train_config import SMALLEST, SMALLEST_ETHD, logged, train_config
from training.fit import fit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ONE_NODE = ("--nodes=1", "--cpus-per-task=1", "--mem=0", "--time=60")


def without(settings: tuple[str, ...], *keys: str) -> list[str]:
    return [setting for setting in settings if not setting.startswith(keys)]


def train(cluster, environment, tmp_path, tasks, arguments, waits="", **more) -> int:
    """Submits slurm/train.sbatch with its log at ``tmp_path/JOB``."""
    variables = {**environment, "TESTS_WAIT": waits, "TESTS_SIGN": f"{tmp_path}/moment", **more}
    return cluster.submit(
        *ONE_NODE, f"--ntasks-per-node={tasks}", f"--gpus-per-node={tasks}", f"--output={tmp_path}/%j",
        "slurm/train.sbatch", *arguments, env=variables, cwd=ROOT,
    )  # fmt: skip


def preempt(cluster, job, tmp_path, start) -> None:
    """Sends the signal when start number ``start`` of a job has reached its moment."""
    log = tmp_path / str(job)
    sign = tmp_path / f"moment{start}"

    def reached() -> bool:
        state = cluster.job(job)["JobState"]
        assert state not in ("FAILED", "COMPLETED"), log.read_text()
        return sign.exists()

    cluster.until(reached, f"start {start} of job {job}", 900)
    cluster.run("scancel", "--signal=USR2", str(job))


def test_a_preempted_run_equals_an_uninterrupted_one(cluster, job_environment, shards, tmp_path):
    """Preempted in the first batch; the job is requeued and goes on from the node's own copy of the shards."""
    settings = ["experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=3", "model.lr_warmup=0"]
    settings += [f"data.root={shards}", f"output={tmp_path}"]
    straight = fit(train_config(*settings, "run_id=straight", "trainer.devices='1'")).folder
    disk = tmp_path / "disk of the node"
    arguments = [*settings, "run_id=preempted"]
    job = train(cluster, job_environment, tmp_path, 1, arguments, "step:0", NODE_DISK=str(disk))
    preempt(cluster, job, tmp_path, 0)
    assert cluster.wait(job, 900) == ["COMPLETED"], (tmp_path / str(job)).read_text()
    assert cluster.job(job)["Restarts"] == "1"
    assert f"Stopped at step 1, checkpoint saved; job {job} is requeued" in (tmp_path / str(job)).read_text()
    assert list(disk.rglob("*.tar"))
    for column in ("train/loss", "val/lip_mse"):
        assert logged(tmp_path / "vaid" / "preempted", column) == logged(straight, column)


@pytest.mark.nightly
def test_a_run_preempted_twice_equals_an_uninterrupted_one(cluster, job_environment, shards, tmp_path):
    """Preempts in the first batch and in a save; the second exceeds the limit of requeues."""
    settings = ["experiment=vaid/tiny", *SMALLEST, "checkpoints.every=2", "trainer.max_steps=6", "model.lr_warmup=0"]
    settings += [f"data.root={shards}", f"output={tmp_path}"]
    straight = fit(train_config(*settings, "run_id=straight", "trainer.devices='1'")).folder

    arguments = [*settings, "run_id=preempted", "preemption.max_requeues=1"]
    job = train(cluster, job_environment, tmp_path, 1, arguments, "step:0,save")
    for start in range(2):
        preempt(cluster, job, tmp_path, start)
    assert cluster.wait(job, 900) == ["FAILED"]
    log = (tmp_path / str(job)).read_text()
    assert cluster.job(job)["Restarts"] == "1"
    assert cluster.job(job)["ExitCode"] == "75:0"
    assert f"Stopped at step 1, checkpoint saved; job {job} is requeued (1 of at most 1 times)." in log
    assert f"Job {job} was requeued 1 times, the limit of preemption.max_requeues=1" in log

    disk = tmp_path / "disk of the node"
    job = train(cluster, job_environment, tmp_path, 1, arguments, NODE_DISK=str(disk))
    assert cluster.wait(job, 900) == ["COMPLETED"], (tmp_path / str(job)).read_text()
    assert list(disk.rglob("*.tar"))
    for column in ("train/loss", "val/lip_mse"):
        assert logged(tmp_path / "vaid" / "preempted", column) == logged(straight, column)
    assert sorted(logged(straight, "train/loss")) == list(range(6))


def test_a_signal_before_python_starts_requeues_the_job(cluster, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        '#!/bin/bash\n[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0\ntouch "$TESTS_SIGN"\nexec sleep 600\n'
    )
    python.chmod(0o755)
    (tmp_path / "activate").write_text(f'export PATH="{tmp_path}:$PATH"\n')
    job = train(cluster, {"EMOTIVETALK_ENV": f"{tmp_path}/activate"}, tmp_path, 2, [])
    cluster.until((tmp_path / "moment").exists, "the job")
    cluster.run("scancel", "--signal=USR2", str(job))
    assert cluster.wait(job) == ["COMPLETED"], (tmp_path / str(job)).read_text()
    assert cluster.job(job)["Restarts"] == "1"


@pytest.mark.nightly
@pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="needs pip install '.[deepspeed]'")
@pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="needs pip install wandb")
def test_zero_2_on_two_ranks_continues_step_by_step_in_one_wandb_run(cluster, job_environment, shards, vaid, tmp_path):
    from tests.helpers.wandb_run import read_runs

    arguments = [
        "experiment=ethd/tiny", *without(SMALLEST_ETHD, "trainer.devices", "trainer.strategy"), "trainer=deepspeed",
        "trainer.strategy=deepspeed", "trainer.precision=32-true", "trainer.max_steps=5",
        f"data.root={shards}", f"output={tmp_path}", f"vaid={vaid}", "logger=wandb",
    ]  # fmt: skip
    zero = {"TESTS_ZERO": "1", "WANDB_MODE": "offline"}
    job = train(cluster, job_environment, tmp_path, 2, [*arguments, "run_id=preempted"], "step:1", **zero)
    preempt(cluster, job, tmp_path, 0)
    assert cluster.wait(job, 900) == ["COMPLETED"], (tmp_path / str(job)).read_text()
    assert cluster.job(job)["Restarts"] == "1"
    alone = train(cluster, job_environment, tmp_path, 2, [*arguments, "run_id=straight"], **zero)
    assert cluster.wait(alone, 900) == ["COMPLETED"], (tmp_path / str(alone)).read_text()

    preempted, straight = tmp_path / "ethd" / "preempted", tmp_path / "ethd" / "straight"
    assert (preempted / "checkpoints" / "last.ckpt").is_dir()  # DeepSpeed's layout
    losses = logged(straight, "train/loss")
    assert sorted(losses) == list(range(5))
    assert logged(preempted, "train/loss") == losses
    parts = read_runs(preempted)
    assert [part.id for part in parts] == ["preempted", "preempted"]
    assert [part.config["slurm"]["job_id"] for part in parts] == [str(job)] * 2
    steps = [sorted(part.values("train/loss")) for part in parts]
    assert steps == [[0, 1], [2, 3, 4]]
    values = {step: value for part in parts for step, value in part.values("train/loss").items()}
    assert values == {step: pytest.approx(float(value)) for step, value in losses.items()}
