"""Checkpoints of a run: which are kept, and the errors for a full disk and damaged files."""

import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from callbacks.run_checkpoints import RunCheckpoints, StraightToDisk
from configs.errors import ConfigError
from lightning_modules.checkpoints import CheckpointError
from lightning_modules.vaid.checkpoint import load_vaid
from lightning_modules.vaid.module import VAIDModule
from tests.helpers.refusals import refuses
from tests.helpers.train_config import logged, train_vaid

pytestmark = pytest.mark.slow


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_newest_and_the_best_are_kept(shards, tmp_path):
    changes = ("checkpoints.keep=1", "checkpoints.best=val/lip_mse", "model.lr=1")
    done = train_vaid(shards, tmp_path, "run_id=a", *changes, steps=9)
    values = {int(step) + 1: float(value) for step, value in logged(done.folder, "val/lip_mse").items()}
    assert list(values) == [3, 6, 9]
    best = min(values, key=values.get)
    assert names(done.folder) == sorted({"best.ckpt", "last.ckpt", "step=9.ckpt", f"step={best}.ckpt"})
    checkpoints = done.folder / "checkpoints"
    assert (checkpoints / "best.ckpt").resolve().name == f"step={best}.ckpt"
    assert (checkpoints / "last.ckpt").resolve().name == "step=9.ckpt"
    with pytest.raises(ConfigError, match=r"checkpoints\.best=val/los: not a validated value; choose one of val/"):
        train_vaid(shards, tmp_path, "run_id=b", "checkpoints.best=val/los")


def test_checkpoints_may_be_more_frequent_than_validations(shards, tmp_path):
    done = train_vaid(shards, tmp_path, "run_id=a", "checkpoints.every=2", "checkpoints.keep=9", steps=5)
    assert names(done.folder) == ["last.ckpt", "step=2.ckpt", "step=3.ckpt", "step=4.ckpt", "step=5.ckpt"]


def test_a_rank_whose_folder_another_rank_removed_raises_the_same_error(tmp_path):
    """With DeepSpeed, where all ranks write into one folder."""

    def save(path):
        torch.save({}, Path(path) / "gone" / "part.pt")

    trainer = SimpleNamespace(global_step=6, should_stop=False, max_steps=9, save_checkpoint=save)
    checkpoints = RunCheckpoints(tmp_path, every=6, validate_every=6)
    with pytest.raises(CheckpointError, match=r"step=6\.ckpt cannot be written to"):
        checkpoints.on_train_batch_end(trainer, None, None, None, 0)


def test_a_full_disk_raises_and_keeps_the_last_checkpoint(shards, tmp_path, monkeypatch):
    """A full disk is simulated by the system's limit on the size of files, 20 kB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    original = VAIDModule.on_save_checkpoint

    def full(self, checkpoint):
        original(self, checkpoint)
        if self.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))

    with monkeypatch.context() as patch:
        patch.setattr(VAIDModule, "on_save_checkpoint", full)
        try:
            message = r"step=6\.ckpt cannot be written to .*last\.ckpt is still step=3"
            refuses(CheckpointError, message, train_vaid, shards, tmp_path, "run_id=a", steps=8)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path / "vaid" / "a") == ["last.ckpt", "step=3.ckpt"]
    again = train_vaid(shards, tmp_path, "run_id=a", "ckpt_path=last", steps=8)
    straight = train_vaid(shards, tmp_path, "run_id=straight", steps=8)
    assert logged(again.folder, "train/loss") == logged(straight.folder, "train/loss")


def test_a_damaged_checkpoint_is_named_with_one_to_resume_from(shards, tmp_path):
    done = train_vaid(shards, tmp_path, "run_id=a")
    last = done.folder / "checkpoints" / "step=6.ckpt"
    whole = last.read_bytes()
    last.write_bytes(whole[: len(whole) // 2])
    (done.folder / "checkpoints" / "step=9.ckpt.part").write_bytes(b"left by a kill")
    message = r"last\.ckpt \(step=6\.ckpt\): not a readable .*ckpt_path=.*step=3\.ckpt"
    refuses(CheckpointError, message, train_vaid, shards, tmp_path, "run_id=a", "ckpt_path=last", steps=7)
    assert last.read_bytes() == whole[: len(whole) // 2]
    again = train_vaid(shards, tmp_path, "run_id=a", f"ckpt_path={done.folder / 'checkpoints' / 'step=3.ckpt'}")
    assert names(again.folder) == ["last.ckpt", "step=3.ckpt", "step=6.ckpt"]
    for name, weight in load_vaid(again.folder / "checkpoints" / "last.ckpt").state_dict().items():
        assert weight.equal(done.module.vaid.state_dict()[name]), name
    last.unlink()
    message = r"links to step=6\.ckpt, which does not exist"
    refuses(CheckpointError, message, train_vaid, shards, tmp_path, "run_id=a", "ckpt_path=last")


def test_a_checkpoint_is_mapped_and_not_read(tmp_path):
    file = tmp_path / "a.ckpt"
    StraightToDisk().save_checkpoint({"state_dict": {"w": torch.ones(1 << 16)}}, file)
    maps = Path("/proc/self/maps")
    assert str(file) not in maps.read_text()
    checkpoint = StraightToDisk().load_checkpoint(file)
    assert str(file) in maps.read_text()
    checkpoint["state_dict"]["w"].zero_()  # a copy of the page; the file keeps its content
    assert StraightToDisk().load_checkpoint(file)["state_dict"]["w"].all()
