"""Sweeps with Optuna and W&B's agent train real runs; a failure in a run gives one line."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from configs.errors import ConfigError
from configs.rules import check
from tests.helpers import ROOT, warm
from tests.helpers.train_config import SMALLEST, train_config
from tests.helpers.wandb_run import read_runs
from training.objective import best_value

pytestmark = pytest.mark.timeout(900)
SHORT = (*SMALLEST, "trainer.max_steps=4")


def train(folder: Path, shards: Path, *typed: str):
    """``train.py`` in ``folder``, on the smallest networks."""
    places = (f"data.root={shards}", f"output={folder / 'runs'}")
    command = [sys.executable, str(ROOT / "train.py"), *typed, *SHORT, *places]
    return warm.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})


def best_of(folder: Path, column: str) -> float:
    with (folder / "csv" / "metrics.csv").open() as file:
        return min(float(row[column]) for row in csv.DictReader(file) if row[column])


@pytest.mark.slow
def test_optuna_finds_the_best_of_real_trainings_and_continues_them(shards, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install '.[sweep]'")
    command = ("-m", "experiment=vaid/sweep", "hydra.sweeper.n_trials=3")
    done = train(tmp_path, shards, *command)
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "runs" / "vaid").iterdir())
    assert len(runs) == 3
    values = {OmegaConf.load(run / "config.yaml").model.lr: best_of(run, "val/lip_mse") for run in runs}
    found = OmegaConf.load(tmp_path / "outputs/sweeps/vaid/optimization_results.yaml")
    assert found.best_value == min(values.values())
    assert values[found.best_params["model.lr"]] == found.best_value
    assert f"best        val/lip_mse={found.best_value:.6g} with model.lr=" in done.stdout

    again = train(tmp_path, shards, *command)
    assert again.returncode == 0, again.stderr
    assert sorted((tmp_path / "runs" / "vaid").iterdir()) == runs
    assert OmegaConf.load(tmp_path / "outputs/sweeps/vaid/optimization_results.yaml") == found


@pytest.mark.slow
def test_a_sweep_replaces_no_file_of_others(shards, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install '.[sweep]'")
    theirs = tmp_path / "outputs/sweeps/vaid/optimization_results.yaml"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("measured: by hand\n")
    done = train(tmp_path, shards, "-m", "experiment=vaid/sweep", "hydra.sweeper.n_trials=1")
    assert done.returncode != 0
    assert "optimization_results.yaml was not written by this program and is not replaced" in done.stderr
    assert "Traceback" not in done.stderr
    assert theirs.read_text() == "measured: by hand\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "status", "words"),
    [
        (("-m", "model.club.weight=-1,-2"), 1, "expected 0 or more"),
        (
            ("-m", "objective=null", "model.lr=1e-3,1e-4"),
            1,
            "compares runs of train.py by a logged value; add objective=",
        ),
        (
            ("-m", "objective=val/lip_mes", "seed=1"),
            1,
            "objective=val/lip_mes: was not logged; did you mean val/lip_mse?",
        ),
        (("-m", "model.lrr=interval(0.1,1)"), 2, "there is no key 'model.lrr'; did you mean model.lr"),
        (("model.lr=1e-3",), 2, "hydra/sweeper=optuna: is for a sweep; add -m"),
        (
            ("-m", "hydra/sweeper/sampler=tpee"),
            2,
            "hydra/sweeper/sampler=tpee: there is no such option; did you mean tpe?",
        ),
        (("-m", "hydra/sweeper=optna"), 2, "hydra/sweeper=optna: there is no such option; did you mean optuna?"),
        (("-m", "hydra.sweeper.n_trial=2"), 2, "there is no key 'hydra.sweeper.n_trial'"),
    ],
)
def test_a_failure_in_a_sweep_is_one_line(typed, status, words, shards, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs pip install '.[sweep]'")
    sweeper = () if "sweeper=" in " ".join(typed) else ("hydra/sweeper=optuna",)
    done = train(
        tmp_path, shards, *typed, *sweeper, "experiment=vaid/tiny", *OBJECTIVE[: "objective" not in str(typed)]
    )
    assert done.returncode == status, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in done.stderr


OBJECTIVE = ("objective=val/lip_mse",)


def test_the_command_that_wandb_starts_is_a_valid_configuration():
    """The agent puts the chosen values where its last word is."""
    sweep = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
    before, keys, last = sweep["command"][:3], sweep["command"][3:-1], sweep["command"][-1]
    assert (*before, last) == ("${env}", "${interpreter}", "${program}", "${args_no_hyphens}")
    config = train_config(*keys, *(f"{name}=0.002" for name in sweep["parameters"]))
    check(config)
    assert (config.model.lr, config.model.club.weight, config.ckpt_path) == (0.002, 0.002, "last")


@pytest.mark.nightly
def test_the_agent_of_wandb_starts_a_run_of_its_sweep(shards, tmp_path, monkeypatch):
    agents = pytest.importorskip("wandb.wandb_agent", reason="needs pip install wandb")
    sweep = yaml.safe_load((ROOT / "examples" / "sweep.yaml").read_text(encoding="utf-8"))
    command = sweep["command"]
    places = (f"data.root={shards}", "logger.offline=true", *SHORT)
    command[command.index("data.root=data/synthetic")] = places[0]
    command[-1:-1] = places[1:]  # the agent's arguments stay last
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    for name, value in {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "WANDB_SWEEP_ID": "sweep1", "WANDB_DIR": str(tmp_path),
        "WANDB_PROJECT": "lips", "WANDB_MODE": "offline", "WANDB_RUN_ID": "", "WANDB_SWEEP_PARAM_PATH": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    agent = agents.Agent(api=None, queue=None)
    agent._sweep_command = command
    chosen = {"model.lr": {"value": 0.002}, "model.club.weight": {"value": 0.3}}
    agent._command_run({"run_id": "trial1", "program": str(ROOT / sweep["program"]), "args": chosen})
    process = agent._run_processes["trial1"]
    assert process.wait(timeout=600) == 0

    (folder,) = (tmp_path / "outputs" / "vaid").iterdir()
    model = OmegaConf.load(folder / "config.yaml").model
    assert (model.lr, model.club.weight) == (0.002, 0.3)
    (run,) = read_runs(folder)
    assert run.id == "trial1"
    assert run.config["model.lr"] == 0.002
    assert sweep["metric"]["name"] in {name for row in run.history for name in row}
    assert json.loads((folder / "starts.jsonl").read_text())["wandb"]["id"] == "trial1"


def test_the_best_value_is_that_of_the_whole_log(tmp_path):
    (tmp_path / "csv").mkdir()
    log = tmp_path / "csv" / "metrics.csv"
    log.write_text("epoch,step,train/loss,val/loss\n0,1,5,\n0,2,4,3.0\n0,4,,nan\n1,6,,2.5\n1,8,,2.75\n")
    assert best_value("val/loss", tmp_path) == 2.5
    assert best_value("val/loss", tmp_path, largest=True) == 3.0
    with pytest.raises(
        ConfigError, match=r"objective=val/los: was not logged; did you mean val/loss\? There are train/"
    ):
        best_value("val/los", tmp_path)
