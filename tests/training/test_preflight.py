"""Checks before the first step: one line per failure, with what to change."""

import shutil
from types import SimpleNamespace

import pytest
import torch

from datamodules.datamodule import ShardDataModule
from runtime.errors import UserError
from runtime.platforms import SHARED_MEMORY
from tests.helpers.ethd import FIELDS, smallest_ethd
from tests.helpers.train_config import train_config, train_vaid
from training.fit import fit
from training.memory import step_bytes
from training.preflight import preflight, saved_bytes, slurm_tasks
from training.stages.vaid import VAIDStage


def test_slurm_tasks_must_equal_the_configured_ranks(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.delenv("SLURM_JOB_NAME", raising=False)
    assert not list(slurm_tasks(4, 2))
    assert list(slurm_tasks(8, 1)) == [
        "trainer.devices=8: the job has --ntasks-per-node=4; set both to the same value, one task per GPU",
        "trainer.nodes=1: the job has --nodes=2; set both to the same value, one task per GPU",
    ]
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert not list(slurm_tasks(8, 1))


@pytest.mark.parametrize(
    ("visible", "message"),
    [(0, r"no GPU is visible.*--gpus-per-node.*trainer=cpu"), (2, r"trainer\.devices=4: 2 GPUs are visible")],
)
def test_missing_gpus_are_reported(monkeypatch, visible, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    config = train_config("experiment=vaid/tiny", "data.root=a", "trainer=ddp", "trainer.devices='4'")
    with pytest.raises(UserError, match=message):
        fit(config)


def test_a_full_disk_is_reported_before_training(shards, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: usage if path == SHARED_MEMORY else usage._replace(free=1000)
    )
    with pytest.raises(UserError, match=r"0\.0 GiB free, .* needed for checkpoints \(checkpoints\.keep=2") as error:
        train_vaid(shards, tmp_path, "run_id=a")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "vaid" / "a").exists()


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        (["trainer=ddp"], 16),
        (["trainer=ddp", "model.ema=0"], 12),
        (["trainer=deepspeed"], 18),
        (["trainer=deepspeed", "model.ema=0"], 18),
        (["trainer=deepspeed_autocast"], 20),
    ],
)
def test_the_size_of_a_checkpoint_depends_on_the_strategy(changes, count):
    config = train_config("experiment=ethd/paper", "data=hdtf", "vaid=a", "data.root=a", *changes)
    assert saved_bytes(config) == count


def test_too_little_shared_memory_is_reported_first(shards, tmp_path, monkeypatch):
    """Docker gives 64 MB unless it is asked for more."""
    genuine = shutil.disk_usage
    small = genuine(SHARED_MEMORY)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: small if path == SHARED_MEMORY else genuine(path))
    message = r"^/dev/shm: 0 MiB free, the loaders need \d+ MiB with data\.workers=2: .* --shm-size=1g .* lower data"
    with pytest.raises(UserError, match=message) as error:
        train_vaid(shards, tmp_path, "run_id=a", "data.workers=2")
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "vaid" / "a").exists()


@pytest.mark.parametrize(("rank", "count"), [(0, 1), (3, 0)])
def test_a_batch_is_read_for_the_count_once_on_each_machine(tmp_path, rank, count):
    read = []
    loader = SimpleNamespace(shared_bytes=lambda: read.append(rank) or 0)
    data = SimpleNamespace(clips={"train": [0] * 8, "val": []}, train_dataloader=lambda: loader)
    config = train_config("experiment=vaid/tiny", "data.root=a")
    device = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(world_size=4, num_devices=4, num_nodes=1, local_rank=rank, strategy=device)
    preflight(config, VAIDStage(), data, trainer, torch.nn.Linear(1, 1), tmp_path)
    assert len(read) == count


def test_the_count_of_shared_memory_is_what_the_blocks_take(shards):
    data = ShardDataModule(root=str(shards), fields=FIELDS, window=8, batch_size=2, pad=False, workers=2)
    loader = data.train_dataloader()
    need = loader.shared_bytes()
    next(iter(loader))
    assert need == loader._slots.blocks.nbytes
    assert data.val_dataloader().shared_bytes() > 0


@pytest.mark.nightly
def test_step_bytes_depends_on_the_strategy(shards):
    data = ShardDataModule(root=str(shards), fields=FIELDS, window=8, batch_size=2, pad=False, workers=0)
    data.setup()
    module = smallest_ethd(data)

    def need(*changes, ranks=1):
        config = train_config("experiment=ethd/paper", "data=hdtf", "data.window=8", "vaid=a", "data.root=a", *changes)
        return step_bytes(config, SimpleNamespace(config=module.config, info=module.info), ranks) / 1.05

    ddp, zero = need("trainer=ddp"), need("trainer=deepspeed")
    parameters = (zero - need("trainer=deepspeed_offload")) / 16  # optimizer states and EMA
    assert 0.5 < parameters / sum(parameter.numel() for parameter in module.parameters()) < 2
    # Float32 weights and gradients instead of bfloat16 ones and a float32 copy of the weights, and autocast's copies.
    assert 0 <= ddp - zero <= 2.5 * parameters + 0.2 * zero
    eight = need("trainer=deepspeed", "data.batch_size=8", ranks=8)
    assert zero - eight == pytest.approx(16 * 7 / 8 * parameters, rel=1e-6)
    assert need("trainer=deepspeed_autocast") > ddp  # a float32 copy of the float32 weights
    assert need("trainer=ddp", "data.batch_size=4") == ddp  # micro-batches of one clip, one after another
    assert need("trainer=ddp", "data.batch_size=2", "data.micro_batch=2") > ddp
