"""Initial weights of a run, and the V-AID that a run holds: both stages, runs, exports, and unsuitable sources."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.errors import ConfigError
from configs.rules import check
from datamodules.datamodule import ShardDataModule
from datamodules.schema import Index
from lightning_modules.checkpoint_files import point
from lightning_modules.checkpoints import CHECKPOINT_INFO, EMA, CheckpointError
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.export import export, load_export
from lightning_modules.ethd.held_vaid import HELD, VAIDFile, vaid_file
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.initial import trained_vaid
from runtime.files import sha256_of
from tests.helpers.refusals import refuses
from tests.helpers.shards import change_index, make_shards
from tests.helpers.train_config import logged, train_config, train_ethd, train_vaid

STILL = ("model.lr=1e-12", "model.weight_decay=0")  # keeps the weights


@pytest.fixture(scope="module")
def trained(shards, vaid, once):
    """Run directory of an ETHD, exported."""
    folder = once("trained", lambda folder: export(train_ethd(shards, vaid, folder, "run_id=t", steps=2).folder))
    return folder / "ethd" / "t"


@pytest.mark.slow
def test_a_run_resumes_and_exports_with_its_own_vaid(shards, vaid, tmp_path):
    vaid = shutil.copytree(vaid, tmp_path / "vaid" / "v", symlinks=True)
    first = sha256_of(vaid / "checkpoints" / "last.ckpt")
    straight = train_ethd(shards, vaid, tmp_path, "run_id=straight", steps=3)
    run = train_ethd(shards, vaid, tmp_path, "run_id=r", steps=1).folder
    assert sha256_of(run / HELD) == first
    train_vaid(shards, tmp_path, "run_id=v", "ckpt_path=last", "checkpoints.keep=1", steps=2)
    assert not (vaid / "checkpoints" / "step=1.ckpt").exists()
    again = train_ethd(shards, vaid, tmp_path, "run_id=r", "ckpt_path=last", steps=2)
    assert again.module.info.vaid_sha256 == first
    shutil.rmtree(vaid)
    again = train_ethd(shards, None, tmp_path, "run_id=r", "ckpt_path=last", steps=3)
    assert logged(again.folder, "train/loss") == logged(straight.folder, "train/loss")
    moved = again.folder.rename(tmp_path / "moved")
    exported = load_export(export(moved))
    held = load_vaid(moved / HELD).state_dict()
    assert all(torch.equal(weight, held[name]) for name, weight in exported.vaid.state_dict().items())


@pytest.mark.slow
def test_a_run_without_its_vaid_asks_for_it_once(shards, vaid, codec_vaid, tmp_path):
    vaid = shutil.copytree(vaid, tmp_path / "v", symlinks=True)
    run = train_ethd(shards, vaid, tmp_path, "run_id=r", steps=1).folder
    (run / HELD).unlink()  # as in a run of an earlier version
    vaid = vaid.rename(tmp_path / "elsewhere")
    resume = ("run_id=r", "ckpt_path=last")
    refuses(CheckpointError, r"once with vaid=RUN", train_ethd, shards, None, tmp_path, *resume, steps=2)
    refuses(CheckpointError, "is not the V-AID", train_ethd, shards, codec_vaid, tmp_path, *resume, steps=2)
    train_ethd(shards, vaid, tmp_path, *resume, steps=2)
    shutil.rmtree(vaid)
    train_ethd(shards, None, tmp_path, *resume, steps=3)


def test_a_vaid_that_changes_while_a_run_starts_is_not_kept(vaid, tmp_path):
    file = vaid / "checkpoints" / "last.ckpt"
    refuses(CheckpointError, "changed since it was read", VAIDFile(file, "0" * 64, "x").keep, tmp_path)
    assert not (tmp_path / HELD).exists()


@pytest.mark.slow
def test_ethd_starts_from_a_run_or_an_export_on_other_data(trained, tmp_path, capsys):
    """Other clips, window and batch; the run's V-AID, averaged weights and scaling of the latents."""
    make_shards(tmp_path / "shards", frames=(30, 40), splits=("train", "val"), seed=3)
    averaged, info = load_ethd(trained)
    alone = shutil.copy(trained / "export" / "ethd.safetensors", tmp_path / "alone.safetensors")
    other = ("data.window=6", "data.batch_size=1", *STILL)
    for number, source in enumerate((trained / "checkpoints" / "last.ckpt", trained / "export", alone)):
        init = (f"init={source}", f"run_id={number}")
        done = train_ethd(tmp_path / "shards", None, tmp_path, *other, *init, steps=1)
        for name, weight in done.module.ethd.state_dict().items():
            torch.testing.assert_close(weight, averaged.state_dict()[name], msg=name)
        assert done.module.info.latents == info.latents
        wanted, found = (load_vaid(run / HELD).state_dict() for run in (trained, done.folder))
        assert all(torch.equal(weight, found[name]) for name, weight in wanted.items())
        checkpoint = torch.load(done.folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert checkpoint[EMA]["updates"] == 1
        text = (done.folder / "init.txt").read_text()
        assert "taken" in text
        assert number > 0 or f"step=2.ckpt (sha256 {sha256_of(trained / 'checkpoints' / 'last.ckpt')})" in text
        assert "left out" in text
        assert text in capsys.readouterr().out.replace("init        ", "", 1)
    assert sha256_of(alone) in text
    # A resumed run has its own weights and V-AID.
    again = train_ethd(tmp_path / "shards", None, tmp_path, *other, *init, "ckpt_path=last", steps=2)
    assert sorted(logged(again.folder, "train/loss")) == [0, 1]


@pytest.mark.slow
def test_a_run_may_start_on_landmarks_of_another_detector_but_not_on_other_latents(trained, shards, tmp_path):
    other = Path(shutil.copytree(shards, tmp_path / "other"))
    encoders = Index.read(other).encoders
    change_index(other, encoders={**encoders, "landmarks": replace(encoders["landmarks"], name="mediapipe")})
    started = train_ethd(other, None, tmp_path, f"init={trained}", "run_id=a", *STILL, steps=1)
    assert started.module.info.encoders["landmarks"].name == "mediapipe"
    change_index(other, encoders={**encoders, "codec": replace(encoders["codec"], options={"patch": 3})})
    refuses(CheckpointError, "codec: the checkpoint was trained on", train_ethd, other, None, tmp_path,
            f"init={trained}", "run_id=b", steps=1)  # fmt: skip


@pytest.mark.slow
def test_latents_that_have_a_constant_cannot_be_whitened(vaid, shards, tmp_path):
    other = Path(shutil.copytree(shards, tmp_path / "svd"))
    encoders = Index.read(other).encoders
    change_index(other, encoders={**encoders, "codec": replace(encoders["codec"], name="svd")})
    changes = ("encoders.codec=svd", "model.whitening=0.5", "model.prediction=v", "run_id=a")
    message = r"model\.whitening=0\.5: latents of codec svd are scaled by its constant; set model\.whitening=1"
    refuses(ConfigError, message, train_ethd, other, vaid, tmp_path, *changes, steps=1)


@pytest.mark.slow
def test_an_ablation_starts_from_the_layers_it_shares(trained, shards, tmp_path):
    without = ("model.variant=wo_exp", "model.expression_dropout=0", "model.expression_guidance=1")
    changes = (f"init={trained}", *without, "run_id=a")
    done = train_ethd(shards, None, tmp_path, *changes, steps=1)
    total = (done.folder / "init.txt").read_text().splitlines()[-1].split()
    taken, new, left_out = (int(count.replace(",", "")) for count in total[1:])
    assert taken == sum(weight.numel() for weight in done.module.ethd.state_dict().values())
    assert (new, left_out > 0) == (0, True)


@pytest.mark.slow
def test_vaid_starts_from_a_run_or_an_export_with_its_statistics(vaid, trained, tmp_path):
    make_shards(tmp_path / "shards", frames=(30, 40), splits=("train", "val"), seed=3)
    wanted = load_vaid(vaid / "checkpoints" / "last.ckpt").state_dict()
    for number, source in enumerate((vaid, trained / "export")):
        changes = ("data.window=16", "data.batch_size=2", f"init={source}", f"run_id={number}", *STILL)
        done = train_vaid(tmp_path / "shards", tmp_path, *changes, "model.overlap=4", steps=1)
        for name, weight in done.module.vaid.state_dict().items():
            torch.testing.assert_close(weight, wanted[name], msg=name)
    assert (
        "q.mean                                                0 " in (done.folder / "init.txt").read_text()
    )  # an export has no q


def test_a_run_that_goes_on_while_another_starts_from_it(vaid, tmp_path):
    """The file that last.ckpt named is read and named, though the link moves."""
    run = shutil.copytree(vaid, tmp_path / "v", symlinks=True)
    found = trained_vaid(run)
    point(run / "checkpoints" / "last.ckpt", "step=2.ckpt")
    assert found.path == run / "checkpoints" / "step=1.ckpt"
    assert sha256_of(found.path) == vaid_file(vaid).sha256


@pytest.mark.slow
def test_a_resumed_vaid_computes_no_statistics(shards, tmp_path, monkeypatch):
    first = train_vaid(shards, tmp_path, "run_id=r", steps=1).module.vaid
    monkeypatch.delattr(ShardDataModule, "motions")
    again = train_vaid(shards, tmp_path, "run_id=r", "ckpt_path=last", steps=2).module.vaid
    assert torch.equal(again.expression_scale.mean, first.expression_scale.mean)


@pytest.mark.slow
def test_unsuitable_sources_are_refused_in_one_line(shards, vaid, trained, tmp_path):
    new, plain = (shards, None, tmp_path, "run_id=bad"), (shards, tmp_path, "run_id=bad")
    checkpoint = trained / "checkpoints" / "last.ckpt"
    refuses(CheckpointError, "stage vaid; expected one of stage ethd", train_ethd, *new, f"init={vaid}")
    refuses(CheckpointError, "no such run", train_ethd, *new, f"init={tmp_path / 'nothing'}")
    refuses(ConfigError, "predicts x0", train_ethd, *new, f"init={trained}", "model.prediction=v", "model.loss=v")
    wider = "model.unet.token_width=16"
    refuses(CheckpointError, r"has shape .*, expected", train_ethd, *new, f"init={trained}", wider)
    for source in (trained, checkpoint):  # a run wins over the export inside of it
        refuses(CheckpointError, "stage ethd; expected one of stage vaid", train_vaid, *plain, f"init={source}")
    (tmp_path / "text.ckpt").write_text("text")
    refuses(CheckpointError, "not a readable .*not written by torch", train_ethd, *new, f"init={tmp_path}/text.ckpt")
    refuses(ConfigError, "init=: expected none, svd, or a run", train_vaid, *plain, "init=")
    refuses(ConfigError, "init=svd: stage vaid starts from", train_vaid, *plain, "init=svd")
    content = torch.load(vaid / "checkpoints" / "last.ckpt", weights_only=True)
    content[CHECKPOINT_INFO]["encoders"]["audio"]["name"] = "wav2vec2"
    torch.save(content, other := tmp_path / "other.ckpt")
    refuses(CheckpointError, "init=.*audio: the checkpoint was trained on", train_vaid, *plain, f"init={other}")
    words = train_config("experiment=emotion/tiny", f"data.root={shards}", "init=x")
    refuses(ConfigError, "init=x: stage emotion starts from init=none", check, words)
    assert not (tmp_path / "ethd").exists()


def test_the_paper_starts_from_svd_and_noise_is_asked_for():
    typed = ("experiment=ethd/paper", "data=hdtf", "data.root=a", "vaid=v")
    assert train_config(*typed).init == "svd"
    assert train_config(*typed, "init=none").init == "none"
    for old, new in (("null", "none"), ("stable-video-diffusion-img2vid-xt/unet", "svd"), ("my/unet", "my/unet")):
        assert train_config(*typed, f"model.svd={old}").init == new
