"""Runs of stage 2: exact resuming, checkpoints, precisions, initialisation with SVD, and errors."""

import math

import pytest
import torch
from safetensors.torch import save_file

from configs.command_line import compose
from configs.errors import ConfigError
from configs.rules import check
from configs.training import TrainConfig
from datamodules.schema import ShardError
from lightning_modules.checkpoints import CHECKPOINT_INFO, EMA, CheckpointError
from lightning_modules.ethd.checkpoint import load_ethd
from runtime.files import sha256_of
from tests.helpers.refusals import refuses
from tests.helpers.train_config import logged, train_config, train_ethd


@pytest.mark.slow
# At a checkpoint with a validation, and between two.
@pytest.mark.parametrize("pause", [pytest.param(3, marks=pytest.mark.nightly), 5])
def test_a_resumed_run_reproduces_losses_weights_and_ema(shards, vaid, tmp_path, pause):
    changes = ("model.lip_dropout=0.4", "model.expression_dropout=0.3")
    straight = train_ethd(shards, vaid, tmp_path, *changes, "run_id=straight", steps=8)
    train_ethd(shards, vaid, tmp_path, *changes, "run_id=twice", steps=pause)
    again = train_ethd(shards, vaid, tmp_path, *changes, "run_id=twice", "ckpt_path=last", steps=8)
    for column in ("train/loss", "val/loss"):
        assert logged(again.folder, column) == logged(straight.folder, column)
    assert len(set(logged(straight.folder, "train/loss").values())) == 8
    one, two = (torch.load(each.folder / "checkpoints" / "last.ckpt", weights_only=True) for each in (straight, again))
    assert one[EMA]["updates"] == two[EMA]["updates"] == 8
    for name, weight in one[EMA]["weights"].items():
        assert torch.equal(weight, two[EMA]["weights"][name]), name
        assert torch.equal(one["state_dict"][f"ethd.{name}"], two["state_dict"][f"ethd.{name}"]), name


@pytest.mark.slow
def test_a_checkpoint_contains_the_ema_and_no_weights_of_vaid(shards, vaid, tmp_path):
    file = vaid / "checkpoints" / "last.ckpt"
    digest = sha256_of(file)
    done = train_ethd(shards, file, tmp_path, "run_id=one", steps=4)
    assert sha256_of(file) == digest
    checkpoint = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert {name.split(".")[0] for name in checkpoint["state_dict"]} == {"ethd"}
    assert {f"ethd.{name}" for name in checkpoint[EMA]["weights"]} == set(checkpoint["state_dict"])
    ethd, info = load_ethd(done.folder)
    assert info == done.module.info
    assert (info.vaid, info.vaid_sha256) == (str(file.resolve()), digest)
    for name, weight in ethd.state_dict().items():
        assert torch.equal(weight, checkpoint[EMA]["weights"][name]), name
    values = logged(done.folder, "speed/step_seconds")
    assert all(float(value) > 0 for value in values.values())
    assert all(0 <= float(value) < 1 for value in logged(done.folder, "speed/data_wait").values())
    assert len(values) >= 2


@pytest.mark.slow
def test_clips_shorter_than_the_window_train_at_their_own_length(shards, vaid, tmp_path):
    done = train_ethd(shards, vaid, tmp_path, "data.window=48", "data.batch_size=1", "run_id=one", steps=4)
    loader = done.data.train_dataloader().dataset
    assert {loader.micro_batches(step)[0].length for step in range(4)} == {30, 40}
    assert all(math.isfinite(float(loss)) for loss in logged(done.folder, "train/loss").values())


@pytest.mark.slow
def test_bfloat16_products_are_close_to_float32(shards, vaid, tmp_path):
    full = train_ethd(shards, vaid, tmp_path, "run_id=full", steps=2)
    half = train_ethd(shards, vaid, tmp_path, "run_id=half", "trainer.precision=bf16-mixed", steps=2)
    assert {parameter.dtype for parameter in half.module.parameters()} == {torch.float32}
    assert {parameter.dtype for parameter in half.module.vaid.parameters()} == {torch.float32}
    for column in ("train/loss", "train/x0_mse"):
        one, two = (logged(each.folder, column) for each in (full, half))
        for step, value in one.items():
            assert float(two[step]) == pytest.approx(float(value), rel=0.05)
    assert all(weight.dtype == torch.float32 for weight in load_ethd(half.folder)[0].parameters())


@pytest.mark.nightly
@pytest.mark.timeout(1800)  # the compiler writes C++
def test_a_compiled_network_trains_as_the_plain_one(shards, vaid, tmp_path):
    """With the compiler of trainer.compile, windows of two lengths, and a validation."""
    changes = ("data.window=48", "data.batch_size=1")
    plain = train_ethd(shards, vaid, tmp_path, *changes, "run_id=plain", steps=4)
    compiled = train_ethd(shards, vaid, tmp_path, *changes, "run_id=compiled", "trainer.compile=true", steps=4)
    for column in ("train/loss", "val/loss"):
        expected, found = (logged(run.folder, column) for run in (plain, compiled))
        assert sorted(found) == sorted(expected)
        for step, value in expected.items():
            assert float(found[step]) == pytest.approx(float(value), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["no_decouple", "wo_lip", "wo_exp", "small", "paper", "paper_guided", "1024"])
def test_every_experiment_trains(shards, vaid, tmp_path, experiment):
    changes = ("run_id=x", "trainer.accelerator=cpu", "trainer.precision=32-true", "videos.sample_every=null")
    done = train_ethd(shards, vaid, tmp_path, *changes, "init=none", "data=folder", steps=2, experiment=experiment)
    assert len(logged(done.folder, "train/loss")) == 2
    assert done.module.ethd.variant == (experiment if experiment.startswith(("no_", "wo_")) else "full")


@pytest.mark.slow
def test_a_new_run_loads_the_weights_of_svd(shards, vaid, tmp_path, capsys):
    unet = train_ethd(shards, vaid, tmp_path, "run_id=first", steps=1).module.ethd.unet.state_dict()
    folder = tmp_path / "unet"
    folder.mkdir()
    (folder / "config.json").write_text('{"_class_name": "UNetSpatioTemporalConditionModel"}')
    theirs = {name: weight + 1 for name, weight in unet.items() if ".injector." not in name}
    save_file(theirs, folder / "diffusion_pytorch_model.safetensors")
    changes = (f"init={folder}", "model.prediction=v", "run_id=svd", "model.lr=1e-9")
    started = train_ethd(shards, vaid, tmp_path, *changes, steps=1)
    assert "loaded" in capsys.readouterr().out
    assert sha256_of(folder / "diffusion_pytorch_model.safetensors") in (started.folder / "init.txt").read_text()
    torch.testing.assert_close(started.module.ethd.unet.conv_in.weight, theirs["conv_in.weight"])
    places = (shards, vaid, tmp_path, "run_id=bad")
    refuses(ConfigError, "SVD's weights predict v", train_ethd, *places, f"init={folder}", steps=1)
    refuses(ConfigError, "SVD's weights predict v", train_ethd, *places, "init=svd", steps=1)
    empty = f"init={tmp_path / 'empty'}"
    (tmp_path / "empty").mkdir()
    refuses(
        CheckpointError, r"has no checkpoints/last\.ckpt", train_ethd, *places, empty, "model.prediction=v", steps=1
    )


@pytest.mark.slow
def test_invalid_configurations_are_rejected(shards, vaid, tmp_path):
    refuses(ConfigError, "vaid is missing", train_ethd, shards, None, tmp_path)
    refuses(CheckpointError, "no such run or checkpoint", train_ethd, shards, tmp_path / "nowhere", tmp_path)
    refuses(CheckpointError, r"has no checkpoints/last\.ckpt", train_ethd, shards, tmp_path, tmp_path)
    ethd = train_ethd(shards, vaid, tmp_path, "run_id=one", steps=1)
    refuses(CheckpointError, "stage ethd; expected one of stage vaid", train_ethd, shards, ethd.folder, tmp_path)
    with pytest.raises(CheckpointError, match="stage vaid; expected one of stage ethd"):
        train_ethd(shards, vaid, tmp_path, f"ckpt_path={vaid / 'checkpoints' / 'last.ckpt'}")
    refuses(ConfigError, r"data\.pad=true", train_ethd, shards, vaid, tmp_path, "data.pad=true")
    refuses(ConfigError, "multiples of 32", train_ethd, shards, vaid, tmp_path, "model.unet.channels=[32,48]")
    unet = "model.unet={channels:[32,32,32,32],heads:[1,1,1,1],attention:[true,true,true,true]}"
    refuses(ShardError, "cannot be halved 3 times", train_ethd, shards, vaid, tmp_path, unet)
    refuses(ConfigError, "uses no V-AID", check, train_config("experiment=vaid/tiny", "vaid=x", f"data.root={shards}"))


def test_a_vaid_of_other_encoders_is_rejected(shards, vaid, tmp_path):
    checkpoint = torch.load(vaid / "checkpoints" / "last.ckpt", weights_only=True)
    checkpoint[CHECKPOINT_INFO]["encoders"]["audio"]["name"] = "wav2vec2"
    torch.save(checkpoint, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"audio: the checkpoint was trained on .*wav2vec2"):
        train_ethd(shards, tmp_path / "other.ckpt", tmp_path)


def test_the_path_of_vaid_may_contain_special_characters():
    path = "runs/it's (1) #run, a=b"
    config = compose("train", TrainConfig, ["experiment=ethd/tiny", f"vaid={path}", "data.root=x"])
    assert config.vaid == path
    check(config)
