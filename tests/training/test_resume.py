"""A run resumes only with its stored configuration, unless changes are allowed explicitly."""

import pytest
import torch
from omegaconf import OmegaConf

from configs.errors import ConfigError
from datamodules.schema import ShardError
from lightning_modules.checkpoints import CheckpointError
from runtime.ownership import ForeignFileError
from tests.helpers.shards import make_shards
from tests.helpers.train_config import logged, train_config, train_vaid
from training.resume import check_resume, check_same_config, require_own_run, run_folder, store_config

TINY = ("experiment=vaid/tiny", "data.root=a", "run_id=r")


@pytest.fixture
def stored(tmp_path):
    store_config(train_config(*TINY), tmp_path)
    return tmp_path


def test_changed_values_are_listed_line_by_line(stored):
    with pytest.raises(CheckpointError, match="started with another configuration") as error:
        check_same_config(train_config(*TINY, "model.lr=0.5", "data.min_frames=7", "seed=3"), stored / "config.yaml")
    changed = ["  data.min_frames: was 24, is 7", "  model.lr: was 0.001, is 0.5", "  seed: was 0, is 3"]
    assert str(error.value).splitlines()[1:4] == changed
    assert "resume.allow_config_change=true" in str(error.value)
    check_same_config(train_config(*TINY, "model.lr=0.5", "resume.allow_config_change=true"), stored / "config.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    ["data.root=b", "data.workers=3", "trainer.devices='4'", "trainer.max_minutes=3", "logger=wandb", "output=o"],
)
def test_paths_hardware_and_loggers_may_change(stored, change):
    check_same_config(train_config(*TINY, change), stored / "config.yaml")


def test_the_initial_weights_and_the_vaid_of_a_new_run_may_change(tmp_path):
    ethd = ("experiment=ethd/tiny", "data.root=a", "run_id=r")
    store_config(train_config(*ethd, "vaid=a", "init=b"), tmp_path)
    check_same_config(train_config(*ethd, "ckpt_path=last"), tmp_path / "config.yaml")


@pytest.mark.slow
def test_the_number_of_steps_may_change_only_without_decay(stored, tmp_path):
    with pytest.raises(CheckpointError, match=r"trainer\.max_steps: was 1800, is 1900"):
        check_same_config(train_config(*TINY, "trainer.max_steps=1900"), stored / "config.yaml")
    store_config(train_config(*TINY, "model.lr_decay=none"), tmp_path / "flat")
    longer = train_config(*TINY, "model.lr_decay=none", "trainer.max_steps=1900")
    check_same_config(longer, tmp_path / "flat" / "config.yaml")


@pytest.mark.slow
def test_an_earlier_configuration_is_renamed(stored):
    old = (stored / "config.yaml").read_bytes()
    store_config(train_config(*TINY), stored)
    assert [path.name for path in stored.iterdir()] == ["config.yaml"]
    store_config(train_config(*TINY, "seed=1"), stored)
    assert (stored / "config-1.yaml").read_bytes() == old
    assert OmegaConf.load(stored / "config.yaml").seed == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"output=out: cannot be written \(Not a directory: .*file/vaid"):
        store_config(train_config(*TINY, "output=out"), tmp_path / "file" / "vaid" / "a")


def test_a_new_run_does_not_overwrite_an_existing_one(tmp_path):
    folder = tmp_path / "vaid" / "r" / "checkpoints"
    folder.mkdir(parents=True)
    config = train_config(*TINY, f"output={tmp_path}")
    assert check_resume(config, run_folder(config)) is None  # interrupted before its first checkpoint
    (folder / "step=9.ckpt").touch()
    (folder / "last.ckpt").symlink_to("step=9.ckpt")
    with pytest.raises(CheckpointError, match=r"vaid/r: already contains a run, up to step=9\.ckpt; .*ckpt_path=last"):
        check_resume(config, run_folder(config))
    fast = train_config(*TINY, f"output={tmp_path}", "trainer.fast_dev_run=true")
    assert check_resume(fast, run_folder(fast)) is None


@pytest.mark.slow
def test_resuming_with_another_configuration_must_be_allowed(tmp_path):
    make_shards(tmp_path / "shards", frames=(30, 40), splits=("train", "val"))
    done = train_vaid(tmp_path / "shards", tmp_path, "run_id=r", steps=3)
    before = {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match=r"model\.lr: was 0\.001, is 0\.002"):
        train_vaid(tmp_path / "shards", tmp_path, "run_id=r", "ckpt_path=last", "model.lr=0.002", steps=5)
    assert {path: path.read_bytes() for path in done.folder.rglob("*") if path.is_file()} == before
    allow = "resume.allow_config_change=true"
    again = train_vaid(tmp_path / "shards", tmp_path, "run_id=r", "ckpt_path=last", "model.lr=0.002", allow, steps=5)
    assert sorted(logged(again.folder, "train/loss")) == [0, 1, 2, 3, 4]
    stored = {path.name: path.read_text() for path in done.folder.glob("config*.yaml")}
    assert ["lr: 0.002" in stored[name] for name in ("config-1.yaml", "config.yaml")] == [False, True]
    with pytest.raises(ShardError, match=r"data\.batch_size: was 4, is 2"):  # allowed for no run
        train_vaid(tmp_path / "shards", tmp_path, "run_id=r", "ckpt_path=last", "data.batch_size=2", allow, steps=6)
    assert {path.name: path.read_text() for path in done.folder.glob("config*.yaml")} == stored


def test_a_checkpoint_of_another_strategy_is_rejected(tmp_path):
    folder = tmp_path / "vaid" / "r" / "checkpoints"
    inside = folder / "step=1.ckpt" / "checkpoint"
    inside.mkdir(parents=True)
    torch.save({}, inside / "mp_rank_00_model_states.pt")
    (folder / "last.ckpt").symlink_to("step=1.ckpt")
    config = train_config(*TINY, "ckpt_path=last", f"output={tmp_path}")
    with pytest.raises(CheckpointError, match=r"a folder written by DeepSpeed.*set trainer\.strategy=deepspeed"):
        check_resume(config, run_folder(config))


@pytest.mark.parametrize(
    "name", ["config.yaml", "config-1.yaml", "starts.jsonl", "csv/metrics.csv", "checkpoints/step=1.ckpt", "init.txt"]
)
def test_a_new_run_replaces_nothing_of_somebody_else(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("lr: 1\n")
    with pytest.raises(ForeignFileError, match=rf"run_id={tmp_path.name}: .*{name} was not written by this program"):
        require_own_run(train_config(*TINY), tmp_path)


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(stored):
    (stored / "csv").mkdir()
    (stored / "csv" / "metrics.csv").write_text("step\n")
    require_own_run(train_config(*TINY), stored)
