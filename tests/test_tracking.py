"""Every command of docs/tracking.md runs, one after the other, on shorter trainings."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import ROOT, warm
from tests.helpers.synthetic_videos import untrained, write_speakers
from tests.helpers.wandb_run import read_runs

pytestmark = pytest.mark.timeout(1800)
ran = pytest.mark.nightly  # by day, test_readme.py composes the commands, and tests/training runs loggers and sweeps

PAGE = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|yaml)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.partition("   #")[0]
    for language, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
]
# Not run here: installations, and commands that need W&B's server; tests/training/test_sweeps.py runs its agent.
LEFT = ("pip install", "wandb sweep", "wandb agent")
TRAIN = "trainer.max_steps=2 trainer.validate_every=2 data.batch_size=2 trainer.progress_bar=false model.lr_warmup=0"
SHORTER = {
    "prepare.py": (
        "dataset.identities=4 dataset.clips_per_identity=2 dataset.seconds=1 dataset.size=64 workers=1 store_video=none"
    ),
    "train.py": TRAIN,
    "train.py -m": f"{TRAIN} hydra.sweeper.n_trials=2",
    "evaluate.py": "metrics=[fid] fid.network=proxy fid.weights=image device=cpu bootstrap=0 cache=cache",
    "evaluate.py table=all": "",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Where the commands ran."""
    for package in ("wandb", "mlflow", "tensorboard", "hydra_plugins.hydra_optuna_sweeper"):
        pytest.importorskip(package, reason=f"needs {package}: make setup")
    folder = tmp_path_factory.mktemp("place")
    write_speakers(folder / "real", clips=2)
    write_speakers(folder / "out", clips=2, gain=0.8)
    (folder / "untrained").mkdir()
    shutil.copy(untrained(folder / "untrained")["image"], folder / "image")
    (yaml_block,) = (block for language, block in BLOCKS if language == "yaml")
    (folder / "lab" / "logger").mkdir(parents=True)
    (folder / "lab" / "logger" / "mlflow.yaml").write_text(yaml_block)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    for command in COMMANDS:
        if command.startswith(LEFT):
            continue
        python, script, *typed = shlex.split(command)
        assert python == "python", command
        shorter = max((key for key in SHORTER if f"{script} {' '.join(typed)}".startswith(key)), key=len)
        if script == "evaluate.py" and not (folder / "outputs" / "ethd").exists():  # any run will do
            shutil.copytree(folder / "outputs" / "vaid" / "tracked", folder / "outputs" / "ethd" / "first")
        changes = shlex.split(SHORTER[shorter])
        done = warm.run([sys.executable, str(ROOT / script), *typed, *changes], cwd=folder, env=environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return folder


def test_every_command_runs_or_is_excluded():
    assert len([command for command in COMMANDS if command.startswith("python ")]) == 8
    assert {command for command in COMMANDS if not command.startswith(("python ", *LEFT))} == set()
    (sweep,) = (shlex.split(command)[-1] for command in COMMANDS if command.startswith("wandb sweep"))
    assert (ROOT / sweep).is_file()


@ran
def test_the_loggers_hold_the_runs(place):
    tracked, both = place / "outputs" / "vaid" / "tracked", place / "outputs" / "vaid" / "both"
    assert [run.id for run in read_runs(tracked)] == ["tracked"]
    assert list((both / "tensorboard").glob("events*"))
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("lips").experiment_id])
    assert {run.info.run_name for run in runs} == {"mlflow", "both"}


@ran
def test_scores_and_tables_are_jobs_linked_to_the_run(place):
    (scores,), (tables,) = read_runs(place / "results"), read_runs(place / "results" / "tables")
    assert (scores.job_type, tables.job_type) == ("eval", "tables")
    assert [run["id"] for run in scores.config["runs"]] == ["tracked"]


@ran
def test_the_sweeps_store_their_best_trial(place):
    assert (place / "outputs" / "sweeps" / "vaid" / "optimization_results.yaml").is_file()
    best = yaml.safe_load((place / "outputs" / "sweeps" / "optimization_results.yaml").read_text())
    assert set(best["best_params"]) == {"model.lr", "model.club.weight"}
