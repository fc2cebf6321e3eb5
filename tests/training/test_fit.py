"""Runs from configurations: exact resuming, files, loggers, run directories, and errors."""

import csv
import io
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from configs.errors import ConfigError
from configs.rules import check
from datamodules.schema import ShardError
from lightning_modules.checkpoints import EMA, CheckpointError
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.module import VAIDModule
from runtime.errors import UserError
from tests.helpers import ROOT, warm
from tests.helpers import shards as shard_helper
from tests.helpers.refusals import refuses
from tests.helpers.shards import make_shards
from tests.helpers.train_config import logged, train_config, train_vaid
from training.fit import build_trainer
from training.resume import resume_path, run_folder
from training.strategies import float32_products

TINY = "experiment=vaid/tiny"
TENSORBOARD = "tensorboard.backend.event_processing.event_accumulator"


def epochs(folder):
    """Returns (step, epoch, whether it is a validation) of every row of the log."""
    with (folder / "csv" / "metrics.csv").open() as file:
        return [(row["step"], row["epoch"], bool(row["val/lip_mse"])) for row in csv.DictReader(file)]


@pytest.mark.slow
# At a checkpoint, at the end of an epoch, and in between.
@pytest.mark.parametrize("pause", [*(pytest.param(pause, marks=pytest.mark.nightly) for pause in (3, 4)), 5])
def test_a_resumed_run_reproduces_the_losses_and_the_weights(shards, tmp_path, pause):
    straight = train_vaid(shards, tmp_path, "run_id=straight")
    train_vaid(shards, tmp_path, "run_id=twice", steps=pause)
    assert sorted(logged(tmp_path / "vaid" / "twice", "train/loss")) == list(range(pause))
    again = train_vaid(shards, tmp_path, "run_id=twice", "ckpt_path=last")
    losses = logged(straight.folder, "train/loss")
    assert sorted(losses) == list(range(6))
    assert len(set(losses.values())) == 6
    assert logged(again.folder, "train/loss") == losses
    assert epochs(again.folder) == epochs(straight.folder)
    torch.testing.assert_close(again.module.state_dict(), straight.module.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
def test_a_run_writes_configuration_checkpoint_and_plots(shards, tmp_path):
    done = train_vaid(shards, tmp_path, "run_id=one", steps=4)
    assert done.folder == tmp_path / "vaid" / "one"
    assert OmegaConf.load(done.folder / "config.yaml").data.root == str(shards)
    vaid = load_vaid(done.folder / "checkpoints" / "last.ckpt", done.data.index.encoders)
    lip = np.concatenate([lip for _, lip, _ in done.data.motions()])
    np.testing.assert_allclose(vaid.lip_scale.mean, lip.mean(0), rtol=1e-5)
    assert sorted(path.name for path in (done.folder / "plots").iterdir()) == ["0000003.png", "0000004.png"]
    assert np.asarray(Image.open(done.folder / "plots" / "0000004.png")).std() > 10
    assert {"val/lip_mse", "val/expression_mse"} <= set(done.trainer.logged_metrics)


@pytest.mark.slow
def test_tensorboard_receives_losses_and_plots(shards, tmp_path):
    accumulator = pytest.importorskip(TENSORBOARD, reason="needs pip install tensorboard")
    done = train_vaid(shards, tmp_path, "logger=tensorboard", "run_id=tb", steps=3)
    events = accumulator.EventAccumulator(str(done.folder / "tensorboard")).Reload()
    losses = [event.value for event in events.Scalars("train/loss")]
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(float(done.trainer.logged_metrics["train/loss"]))
    picture = Image.open(io.BytesIO(events.Images("val/latents")[-1].encoded_image_string))
    np.testing.assert_array_equal(np.asarray(picture), np.asarray(Image.open(done.folder / "plots" / "0000003.png")))


@pytest.mark.slow
def test_wandb_offline_stores_losses_and_plots_under_the_run_id(shards, tmp_path):
    wandb = pytest.importorskip("wandb", reason="needs pip install wandb")
    done = train_vaid(shards, tmp_path, "logger=wandb", "logger.offline=true", "run_id=wb", steps=3)
    wandb.teardown()  # waits until the service has written everything
    (folder,) = (done.folder / "wandb").glob("offline-run-*-wb")
    (plot,) = folder.glob("files/media/images/val/latents*.png")
    assert plot.read_bytes() == (done.folder / "plots" / "0000003.png").read_bytes()
    assert b"train/loss" in (folder / "run-wb.wandb").read_bytes()


def test_a_logger_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"logger=wandb: is not installed; pip install wandb"):
        check(train_config(TINY, "data.root=a", "logger=wandb"))


def test_fast_dev_run_writes_nothing(shards, tmp_path):
    assert train_vaid(shards, tmp_path, "run_id=dev", "trainer.fast_dev_run=true").trainer.global_step == 1
    assert not (tmp_path / "vaid").exists()


def test_float32_products_of_a_gpu_have_the_configured_precision_while_it_trains():
    assert train_config(TINY).trainer.float32_products == "high"
    before, inside = torch.get_float32_matmul_precision(), []
    for precision, device in (("high", "cuda:1"), ("highest", "cuda:1"), ("high", "cpu")):
        with suppress(KeyError), float32_products(precision, torch.device(device)):
            inside.append(torch.get_float32_matmul_precision())
            raise KeyError
        assert torch.get_float32_matmul_precision() == before
    assert inside == ["high", "highest", before]


@pytest.mark.parametrize("measured", [True, False])
def test_cudnn_measures_its_algorithms_where_asked_for(tmp_path, monkeypatch, measured):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", not measured)
    assert not train_config(TINY).trainer.cudnn_benchmark
    settings = train_config(TINY, f"trainer.cudnn_benchmark={measured}".lower()).trainer
    build_trainer(settings, tmp_path, "auto", [], [], validates=True)
    assert torch.backends.cudnn.benchmark is measured


def test_the_default_run_id_depends_on_what_is_trained():
    base = train_config(TINY, "data.root=a")
    assert run_folder(base) == run_folder(train_config(TINY, "data.root=a", "trainer.max_steps=9", "logger=wandb"))
    assert run_folder(base) != run_folder(train_config(TINY, "data.root=a", "model.club.weight=0"))
    assert run_folder(base).name.startswith("vaid-tiny-")
    assert run_folder(train_config(TINY, "run_id=mine")) == Path("outputs/vaid/mine")


def test_last_without_a_checkpoint_is_a_new_run(tmp_path):
    config = train_config(TINY, "ckpt_path=last", "run_id=new")
    config.output = str(tmp_path)
    assert resume_path(config, run_folder(config)) is None


@pytest.mark.parametrize("micro_batch", ["null", "1"])
def test_a_non_finite_loss_stops_the_run_and_names_the_clips(tmp_path, monkeypatch, micro_batch):
    arrays_of = shard_helper.arrays_of

    def with_nan(key, *rest):
        arrays = arrays_of(key, *rest)
        if key == "clip_0005":
            arrays["audio.npy"][:] = np.nan
        return arrays

    monkeypatch.setattr(shard_helper, "arrays_of", with_nan)
    make_shards(tmp_path / "shards", frames=(40,))
    with pytest.raises(UserError, match=r"the loss is nan on clips clip_0005; .*non_finite_rank0\.json lists"):
        train_vaid(tmp_path / "shards", tmp_path, "run_id=nan", f"data.micro_batch={micro_batch}")
    report = OmegaConf.load(tmp_path / "vaid" / "nan" / "non_finite_rank0.json")
    assert len(report["keys"]) == (4 if micro_batch == "null" else 1)
    assert report.clips_with_non_finite.audio == ["clip_0005"]
    assert report.clips_with_non_finite.lip == []
    last = tmp_path / "vaid" / "nan" / "checkpoints" / "last.ckpt"
    if last.exists():
        assert all(w.isfinite().all() for w in torch.load(last, weights_only=True)["state_dict"].values())


def test_a_nan_gradient_of_a_finite_loss_stops_the_run_before_it_is_saved(shards, tmp_path, monkeypatch):
    losses = VAIDModule.losses

    def with_infinite_slope(self, batch):
        found = losses(self, batch)
        slope = 0 * (0 * next(self.parameters())).sqrt().sum()  # 0, with gradient 0 * infinity
        return found._replace(loss=found.loss + slope) if batch["step"] == 2 else found

    monkeypatch.setattr(VAIDModule, "losses", with_infinite_slope)
    with pytest.raises(UserError, match=r"step 2: the norm of the gradients is nan after clips clip_.*_rank0\.json"):
        train_vaid(shards, tmp_path, "run_id=nan", "checkpoints.every=1")
    folder = tmp_path / "vaid" / "nan"
    report = OmegaConf.load(folder / "non_finite_rank0.json")
    assert report.global_step == 2
    assert report.clips_with_non_finite.audio == []
    last = folder / "checkpoints" / "last.ckpt"
    assert last.resolve().name == "step=2.ckpt"
    assert all(w.isfinite().all() for w in torch.load(last, weights_only=True)["state_dict"].values())
    norms = logged(folder, "train/grad_norm")
    assert sorted(norms) == [0, 1]
    assert all(float(norm) > 0 for norm in norms.values())


def test_shards_of_another_encoder_are_rejected(shards, tmp_path):
    with pytest.raises(ShardError, match=r"made by the audio encoder mel, but .* has encoders\.audio=wav2vec2"):
        train_vaid(shards, tmp_path, "encoders.audio=wav2vec2")


@pytest.mark.slow
def test_checkpoints_of_another_stage_and_damaged_ones_are_rejected(shards, tmp_path):
    path = train_vaid(shards, tmp_path, "run_id=a", steps=3).folder / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["emotivetalk"]["stage"] = "ethd"
    torch.save(checkpoint, path)
    refuses(CheckpointError, "stage ethd", train_vaid, shards, tmp_path, "run_id=a", "ckpt_path=last")
    path.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=r"last\.ckpt \(step=3\.ckpt\): not a readable checkpoint"):
        train_vaid(shards, tmp_path, "run_id=a", "ckpt_path=last")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run_id=a/b", "run_id=a/b"),
        ("trainer.max_steps=0", r"trainer\.max_steps=0"),
        ("data.fields=[audio,lip]", r"data\.fields.*also needs expression, portraits"),
        ("model.overlap=125", r"model\.overlap=125.*window=125"),
        ("model.guidance=2", r"model\.guidance=2\.0: needs model\.condition_dropout"),
        ("model.lip.head_width=7", r"model\.lip\.head_width=7"),
        ("model.expression.audio_mode=concat", r"expected one of add, cross_attn"),
        ("model.sampling_steps=2000", r"model\.sampling_steps=2000"),
        ("model.club.weight=-1", r"model\.club\.weight=-1"),
        ("logger.name=paper", "expected one of csv"),
        ("data.root=null", "data.root is missing"),
    ],
)
def test_invalid_configurations_are_rejected(change, message):
    refuses(ConfigError, message, check, train_config(TINY, "data.root=a", change))


@pytest.mark.slow
@pytest.mark.parametrize("experiment", sorted(path.stem for path in (ROOT / "configs/experiment/vaid").glob("*.yaml")))
def test_every_experiment_is_valid_and_states_cost_result_and_command(experiment):
    data = ["data.root=a"] if experiment in ("tiny", "small", "sweep") else ["data.roots.hdtf=a", "data.roots.mead=b"]
    check(train_config(f"experiment=vaid/{experiment}", *data))
    head = (ROOT / "configs/experiment/vaid" / f"{experiment}.yaml").read_text().split("defaults:")[0]
    for word in ("Cost:", "Result:", "Command:"):
        assert word in head
    assert "TODO" not in head


@pytest.mark.slow
def test_the_command_line_reports_errors_without_traceback(tmp_path):
    for arguments, message in (
        (["experiment=vaid/tiny"], "data.root is missing"),
        (["experiment=vaid/tiny", "data.root=nowhere at all"], "nowhere at all"),
        (["experiment=vaid/tiny", "data.rot=x"], "did you mean data.root"),
    ):
        done = warm.run([sys.executable, "train.py", *arguments, f"output={tmp_path}"], cwd=ROOT)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_averaged_weights_of_di_cte_are_saved_resumed_and_loaded(shards, tmp_path):
    straight = train_vaid(shards, tmp_path, "run_id=straight", "model.ema=0.5", steps=4)
    train_vaid(shards, tmp_path, "run_id=twice", "model.ema=0.5", steps=2)
    again = train_vaid(shards, tmp_path, "run_id=twice", "model.ema=0.5", "ckpt_path=last", steps=4)
    for run in (straight, again):
        checkpoint = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
        averages = checkpoint[EMA]["weights"]
        assert checkpoint[EMA]["updates"] == 4
        assert {name.split(".")[0] for name in averages} == {"di_cte"}
        for name, weight in load_vaid(run.folder / "checkpoints" / "last.ckpt").state_dict().items():
            assert torch.equal(weight, averages.get(name, checkpoint["state_dict"][f"vaid.{name}"])), name
        assert any(not torch.equal(each, checkpoint["state_dict"][f"vaid.{name}"]) for name, each in averages.items())
    assert logged(again.folder, "val/expression_mse") == logged(straight.folder, "val/expression_mse")
