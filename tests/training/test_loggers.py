"""What a run writes to its loggers: every step once, its provenance, its plots and tables."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import lightning
import pytest
import torch

from callbacks.run_log import git_state, provenance
from configs.errors import ConfigError
from configs.loggers import LoggerConfig
from configs.rules import check
from datamodules.schema import Index
from lightning_modules.ethd.export import export
from media import probe
from runtime.errors import UserError
from tests.helpers import ROOT
from tests.helpers.synthetic_videos import untrained
from tests.helpers.train_config import logged, train_config, train_ethd, train_vaid
from train import train
from training import wandb_mode as module
from training.loggers import build_loggers, show_export
from training.wandb_mode import wandb_mode


@pytest.mark.slow
def test_wandb_holds_the_run_through_a_restart_and_its_export(codec_shards, codec_vaid, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="needs pip install wandb")
    from tests.helpers.wandb_run import read_runs

    monkeypatch.setenv("SLURM_JOB_ID", "77")
    files = untrained(tmp_path)
    for steps in (2, 4):
        folder = train_ethd(
            codec_shards, codec_vaid, tmp_path, "logger=wandb", "logger.offline=true", "run_id=same",
            "trainer.validate_every=2", "model.sampling_steps=2", "ckpt_path=last",
            "videos.sample_every=4", "videos.sample_clips=1", "videos.evaluate_every=4", "videos.evaluate_clips=2",
            "videos.frames=12", "videos.metrics=[fid]", "videos.fid.network=proxy",
            f"videos.fid.weights={files['image']}", steps=steps,
        ).folder  # fmt: skip
    shown = show_export(export(folder))
    assert shown is not None
    assert "artifact same-export" in shown
    wandb.teardown()  # waits until the service has written everything

    runs = read_runs(folder)
    assert [run.id for run in runs] == ["same"] * 3
    assert {(run.project, run.group, run.job_type) for run in runs[:2]} == {("emotivetalk", "table1", "train")}
    assert runs[0].tags == ["ethd", "folder"]
    starts = [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
    assert {start["wandb"]["id"] for start in starts} == {"same"}
    first, second, exported = runs
    assert sorted(first.values("train/loss")) == [0, 1]
    assert sorted(second.values("train/loss")) == [2, 3]
    assert all(0 <= wait < 1 for wait in second.values("speed/data_wait").values())
    assert second.values("speed/peak_memory_gib")
    assert second.config["model"]["lr"] == 1e-3
    assert second.config["versions"]["lightning"] == lightning.__version__
    digest = hashlib.sha256((codec_shards / "index.json").read_bytes()).hexdigest()
    assert second.config["data_sha256"]["folder"] == digest
    assert second.config["slurm"]["job_id"] == "77"
    (name,) = {name for row in second.history for name in row if name.endswith("/video/videos")}
    ((video,),) = second.values(name).values()
    assert probe(second.file(video["path"])).has_sound
    table = json.loads(second.file(second.values("val/clips/path")[4]).read_text())
    assert table["columns"][:2] == ["clip", "frames"]
    assert "fid/generated/samples" in table["columns"]
    assert len(table["data"]) == 2
    assert exported.artifacts == {"same-export": ["ethd.safetensors"]}


OFFLINE = ("logger=wandb", "logger.offline=true")
MLFLOW = "+logger.use.mlflow={class: lightning.pytorch.loggers.MLFlowLogger"


@pytest.mark.slow
def test_several_loggers_at_once_and_any_of_lightning_by_its_class(shards, tmp_path):
    for name in ("tensorboard", "wandb", "mlflow"):
        pytest.importorskip(name, reason=f"needs pip install {name}")
    import wandb
    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from tests.helpers.wandb_run import read_runs

    store = f"sqlite:///{tmp_path}/mlflow.db"
    folder = train_vaid(
        shards, tmp_path, "logger=[csv,tensorboard,wandb]", "logger.offline=true", "run_id=many",
        f'{MLFLOW}, experiment_name: lips, tracking_uri: "{store}"}}', steps=2,
    ).folder  # fmt: skip
    local = {step: pytest.approx(float(value)) for step, value in logged(folder, "train/loss").items()}
    wandb.teardown()  # waits until the service has written everything
    (run,) = read_runs(folder)
    assert run.values("train/loss") == local
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {event.step: event.value for event in events.Scalars("train/loss")} == local
    client = MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("lips").experiment_id])
    assert (found.info.run_name, found.info.status) == ("many", "FINISHED")
    assert {row.step: row.value for row in client.get_metric_history(found.info.run_id, "train/loss")} == local
    assert found.data.params["model/lr"] == "0.001"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["+logger.use.mlfow={}"], r"logger\.use=mlfow: there is no such logger; there are tensorboard, wandb"),
        (
            [f"{MLFLOW}r}}"],
            r"logger\.use\.mlflow\.class=.*MLFlowLoggerr: lightning\.pytorch\.loggers has no MLFlowLoggerr",
        ),
        (["+logger.use.mine.class=nowhere.Logger"], r"Python finds no module nowhere"),
        (["+logger.use.mine=3"], r"logger\.use\.mine=3: expected keyword arguments"),
        (
            [f"{MLFLOW}, trackin_uri: a}}"],
            r"logger\.use\.mlflow: MLFlowLogger cannot be created \(.*'trackin_uri'.*tracking_uri",
        ),
        ([f"{MLFLOW}, tracking_uri: 'what://x'}}"], r"logger\.use\.mlflow: MLFlowLogger cannot be created \(.*URI"),
        (["+logger.use.mine.class=collections.Counter"], r"Counter: is not a logger of Lightning"),
        (["logger=wandb", "+logger.use.wandb.id=3"], r"logger\.use\.wandb: takes no arguments; W&B's keys are"),
        (["logger.project=a/b"], r"logger\.project=a/b: expected 1 to 128 characters, none of them"),
        (["logger.entity=my lab"], r"logger\.entity=my lab: expected the name of a W&B user or team, without spaces"),
        ([f"logger.tags=[{'x' * 65}]"], r"logger\.tags=x{65}: expected a tag of 1 to 64 characters"),
        (["logger.name=paper"], r"logger\.name=paper: expected one of csv, tensorboard, wandb"),
    ],
)
def test_a_logger_that_cannot_be_created_is_one_line(typed, words, tmp_path):
    pytest.importorskip("mlflow", reason="needs pip install mlflow-skinny")

    def make():
        config = train_config("experiment=vaid/tiny", "data.root=a", *typed)
        check(config)
        build_loggers(config, tmp_path)

    with pytest.raises((ConfigError, UserError), match=words) as refusal:
        make()
    assert len(str(refusal.value).splitlines()) == 1


def test_the_earlier_key_is_accepted_with_the_new_one_named(capsys):
    config = train_config("experiment=vaid/tiny", "data.root=a", "logger.name=tensorboard")
    check(config)
    assert list(config.logger.chosen) == ["tensorboard"]
    assert capsys.readouterr().err == (
        "note: logger.name=tensorboard is now logger=tensorboard; the next version reads the new name only\n"
    )


@pytest.mark.slow
def test_tensorboard_drops_what_a_killed_run_logged_after_its_checkpoint(codec_shards, tmp_path):
    tensorboard = "tensorboard.backend.event_processing.event_accumulator"
    accumulator = pytest.importorskip(tensorboard, reason="needs pip install tensorboard")
    changes = ("logger=tensorboard", "run_id=tb", "ckpt_path=last", "trainer.validate_every=2")
    for steps in (3, 4):
        folder = train_vaid(codec_shards, tmp_path, *changes, steps=steps).folder
        checkpoints = folder / "checkpoints"
        if steps == 3:  # as after a kill: what was saved last is the checkpoint of step 2
            last = checkpoints / "last.ckpt"
            last.unlink()
            last.write_bytes(next(checkpoints.glob("*2.ckpt")).read_bytes())
    events = accumulator.EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [0, 1, 2, 3]
    assert [json.loads(line)["step"] for line in (folder / "starts.jsonl").read_text().splitlines()] == [0, 2]


def test_provenance_names_the_code_and_hides_the_home(codec_shards, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    config = train_config("experiment=vaid/tiny", "data.root=a")
    config.data.root = str(tmp_path / "shards")
    record = provenance(config, {"folder": Index.read(codec_shards)})
    assert record["data"]["root"] == "~/shards"
    assert torch.__version__.startswith(record["versions"]["torch"])
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert record["git"]["commit"] == git_state()["commit"] == head.stdout.strip()


@pytest.mark.slow
def test_ablations_belong_to_table_2(tmp_path):
    pytest.importorskip("wandb", reason="needs pip install wandb")
    ethd = ("experiment=ethd/tiny", "data.root=a", "vaid=b")
    groups = {
        "table1": train_config(*ethd, *OFFLINE),
        "table2": train_config(*ethd, *OFFLINE, "model.variant=wo_lip"),
        "vaid": train_config("experiment=vaid/tiny", "data.root=a", *OFFLINE),
        "mine": train_config(*ethd, *OFFLINE, "logger.group=mine"),
    }
    for group, config in groups.items():
        logger, _ = build_loggers(config, tmp_path)
        assert logger._wandb_init["group"] == group


class NotFoundServer(BaseHTTPRequestHandler):
    """A server that answers 404."""

    def do_GET(self):
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The address of a W&B server; no key for it anywhere."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "WANDB_IDENTITY_TOKEN_FILE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    module.reachable.cache_clear()
    listening = HTTPServer(("127.0.0.1", 0), NotFoundServer)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.server_port}")
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    listening.server_close()
    module.reachable.cache_clear()


@pytest.mark.slow
def test_a_missing_key_is_an_error_before_any_work(server, monkeypatch):
    pytest.importorskip("wandb", reason="needs pip install wandb")
    config = train_config("experiment=vaid/tiny", "data.root=a", "logger=wandb")
    with pytest.raises(ConfigError, match=rf"no key for {server}; run `wandb login` .* logger\.offline=true"):
        train(config)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode(config.logger) == "online"


def test_the_key_of_wandb_login_is_found(server, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1\n  login user\n  password 0000\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_mode(LoggerConfig()) == "online"


def test_without_network_the_disk_is_taken_unless_the_server_was_asked_for(server, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:1")
    assert wandb_mode(LoggerConfig()) == "offline"
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:1 cannot be reached from this machine"):
        wandb_mode(LoggerConfig(offline=False))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(LoggerConfig(offline=False)) == "disabled"
