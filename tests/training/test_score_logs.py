"""Scores and tables are W&B jobs of their own, linked to the training that is scored."""

from __future__ import annotations

import hashlib
import json

import pytest

from configs.command_line import compose
from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.loggers import ScoreLoggerConfig
from configs.rules import check
from configs.tables import TableConfig
from evaluate import evaluate, tables
from evaluation.results import Results
from tests.helpers.results import value
from tests.helpers.synthetic_videos import untrained, write_speakers
from tests.helpers.train_config import train_vaid
from tests.helpers.wandb_run import read_runs
from training.score_logs import log_scores

WANDB = ("logger=wandb", "logger.offline=true", "logger.entity=lab", "logger.tags=[mine]", "logger.notes=a (1) note")


@pytest.fixture(scope="module")
def run(shards, tmp_path_factory):
    """The run directory of a training in another W&B project."""
    pytest.importorskip("wandb", reason="needs pip install wandb")
    folder = tmp_path_factory.mktemp("runs")
    return train_vaid(shards, folder, *WANDB, "logger.project=other", "logger.group=g", "run_id=r", steps=1).folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Arguments that compare two videos by an untrained network."""
    folder = tmp_path_factory.mktemp("videos")
    write_speakers(folder / "real", clips=2)
    write_speakers(folder / "made", clips=2, gain=0.8)
    (folder / "made" / "clip0.json").write_text(json.dumps({"weights": {"ethd": "ab" * 32}}))
    return (
        f"generated={folder / 'made'}", f"reference={folder / 'real'}", f"cache={folder / 'cache'}", "metrics=[fid]",
        "device=cpu", "bootstrap=0", "fid.network=proxy", f"fid.weights={untrained(folder)['image']}",
        "cell.system=mine", "cell.dataset=own", "cell.mode=A", "cell.new=true",
    )  # fmt: skip


def do(task, name, schema, *typed):
    config = compose(name, schema, typed)
    check(config)
    return task(config)


def teardown():
    import wandb

    wandb.teardown()  # waits until the service has written everything


@pytest.mark.slow
def test_scores_and_tables_belong_to_the_run_they_score(run, videos, tmp_path):
    output = tmp_path / "results" / "mine.json"
    scored = (*WANDB, f"logger.run={run}")
    assert do(evaluate, "evaluate", EvaluateConfig, *videos, f"output={output}", *scored) == 0
    places = (f"results={output.parent}", f"output={tmp_path / 'tables'}", "table=1", "datasets=[own]")
    assert do(tables, "tables", TableConfig, *places, *WANDB) == 0
    teardown()

    (training,), (scores,), (tabled,) = read_runs(run), read_runs(output.parent), read_runs(tmp_path / "tables")
    assert [one.job_type for one in (training, scores, tabled)] == ["train", "eval", "tables"]
    assert {(one.entity, one.project, one.group, one.notes) for one in (training, scores, tabled)} == {
        ("lab", "other", "g", "a (1) note")
    }
    assert scores.tags == ["eval", "mine"]
    link = {"run_id": "r", "stage": "vaid", "id": training.id, "project": "other", "entity": "lab", "group": "g"}
    assert scores.config["runs"] == tabled.config["runs"] == [link]

    fid = json.loads(output.read_text())["metrics"]["fid"]["value"]
    (numbers,) = (row for row in scores.history if "fid" in row)
    assert numbers["fid"] == fid
    assert scores.config["cell"]["system"] == "mine"
    assert scores.config["weights"] == {"ethd": "ab" * 32}
    (path,) = (row["clips/path"] for row in scores.history if "clips/path" in row)
    table = json.loads(scores.file(path).read_text())
    assert table["columns"][:2] == ["clip", "frames"]
    assert [row[0] for row in table["data"]] == ["clip0", "clip1"]

    (cells,) = (row for row in tabled.history if "table1/own/mine/A/full/fid" in row)
    assert cells["table1/own/mine/A/full/fid"] == fid
    assert tabled.config["results_sha256"] == {"mine.json": hashlib.sha256(output.read_bytes()).hexdigest()}
    (path,) = (row["table1/path"] for row in tabled.history if "table1/path" in row)
    assert "mine" in {row[2] for row in json.loads(tabled.file(path).read_text())["data"]}


@pytest.mark.slow
def test_results_without_loggers_do_not_name_them(videos, tmp_path):
    output = tmp_path / "mine.json"
    assert do(evaluate, "evaluate", EvaluateConfig, *videos, f"output={output}") == 0
    assert "logger" not in json.loads(output.read_text())["settings"]
    assert not (tmp_path / "wandb").exists()


@pytest.mark.slow
def test_intervals_and_what_was_not_computed_are_logged(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    settings = {"cell": {"system": "mine"}, "generated": str(tmp_path)}
    results = Results((value("fid", 3.0),), {"fvd": "no weights"}, (), (), 3, settings, {})
    log_scores(ScoreLoggerConfig(use={"tensorboard": {}}), tmp_path / "mine.json", results.record())
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert {name: found for name, found in logged.items() if name != "hp_metric"} == {
        "fid": [3.0],
        "fid/low": [2.5],
        "fid/high": [3.5],
    }
    assert "no weights" in (tmp_path / "tensorboard" / "hparams.yaml").read_text()


def test_a_folder_without_a_run_is_refused_before_any_work(tmp_path):
    config = TableConfig(results=str(tmp_path))
    config.logger.run = str(tmp_path)
    with pytest.raises(ConfigError, match=r"logger\.run=.*no config\.yaml of train\.py in it"):
        tables(config)
