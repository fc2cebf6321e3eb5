"""Checks before the first step: GPUs, ranks, SLURM tasks, disk space and GPU memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer

from configs.errors import ConfigError
from configs.training import TrainConfig, TrainerConfig
from configs.training_rules import check_ranks, weights_are_16_bit
from datamodules.datamodule import ShardDataModule
from runtime.devices import device_name, has_bfloat16, resolve_device
from runtime.errors import UserError
from runtime.files import bytes_below
from runtime.platforms import SHARED_MEMORY, shared_memory_free
from training.stages.stage import Stage

GIB, MIB = 2**30, 2**20
MOMENTS, FLOAT32, BFLOAT16 = 8, 4, 2  # bytes per parameter in a checkpoint: Adam's two moments, a weight


def check_devices(settings: TrainerConfig) -> None:
    """Checks that this machine has the configured GPUs and that they support the precision.

    Raises:
        UserError: If they are not; the message names the number of visible GPUs.
    """
    if settings.accelerator == "gpu":
        _check_count(settings)
    key, other = f"trainer.precision={settings.precision}", "trainer.precision=32-true"
    if settings.deepspeed.autocast:
        key, other = "trainer.deepspeed.autocast=true", f"trainer=deepspeed {other}"
    device = resolve_device("cpu" if settings.accelerator == "cpu" else "auto")  # as Lightning chooses
    if key != other and not has_bfloat16(device):
        raise UserError(f"{key}: {device_name(device)} has no bfloat16; train in float32 with {other}")


def _check_count(settings: TrainerConfig) -> None:
    count = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if not count:
        raise UserError(
            "trainer.accelerator=gpu: no GPU is visible on this machine; in a job, request them (--gpus-per-node), "
            "check nvidia-smi and CUDA_VISIBLE_DEVICES, or train on the CPU with trainer=cpu"
        )
    if settings.devices.isdecimal() and int(settings.devices) > count:
        raise UserError(
            f"trainer.devices={settings.devices}: {count} GPU{'s are' if count > 1 else ' is'} visible on this "
            f"machine; set trainer.devices={count}, or request more (--gpus-per-node; --gpus-per-task hides others)"
        )


def preflight(
    config: TrainConfig, stage: Stage, data: ShardDataModule, trainer: Trainer, module: LightningModule, folder: Path
) -> None:
    """Checks ranks, SLURM tasks, disk space, shared memory and GPU memory.

    Raises:
        UserError: If checks fail, with one line per failure.
    """
    failures = [
        *_ranks(config, stage, data, trainer),
        *slurm_tasks(trainer.num_devices, trainer.num_nodes),
        *_disk(config, module, folder),
        *([] if stage.own_loaders or trainer.local_rank else _shared_memory(data, trainer.num_nodes)),
        *_memory(config, stage, trainer, module),
    ]
    if failures:
        raise UserError("\n       ".join(["this run cannot start:"] * (len(failures) > 1) + failures))


def _ranks(config: TrainConfig, stage: Stage, data: ShardDataModule, trainer: Trainer) -> Iterator[str]:
    try:
        check_ranks(config, trainer.world_size)
    except ConfigError as error:
        yield str(error)
    if not stage.own_loaders:
        yield from too_few_clips(config, trainer.world_size, len(data.clips["train"]))


def too_few_clips(config: TrainConfig, ranks: int, clips: int) -> Iterator[str]:
    """Yields a message if there are more ranks than training clips."""
    if ranks > clips:
        yield (
            f"trainer.devices={config.trainer.devices}, trainer.nodes={config.trainer.nodes}: {ranks} ranks for "
            f"{clips} training clips would train on repeated clips; run on at most {clips} ranks, or prepare more clips"
        )


def slurm_tasks(devices: int, nodes: int) -> Iterator[str]:
    """Yields a message if SLURM starts another number of processes than configured."""
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return
    for name, option, key, wanted in (
        ("SLURM_NTASKS_PER_NODE", "--ntasks-per-node", "trainer.devices", devices),
        ("SLURM_NNODES", "--nodes", "trainer.nodes", nodes),
    ):
        found = os.environ.get(name)
        if found is not None and found != str(wanted):
            yield f"{key}={wanted}: the job has {option}={found}; set both to the same value, one task per GPU"


def _disk(config: TrainConfig, module: LightningModule, folder: Path) -> Iterator[str]:
    place = next(parent for parent in [folder, *folder.resolve().parents] if parent.exists())
    parameters = sum(parameter.numel() for parameter in module.parameters())
    need = saved_bytes(config) * parameters * (config.checkpoints.keep + 1 + (config.checkpoints.best is not None))
    held = bytes_below(folder / "checkpoints")
    free = shutil.disk_usage(place).free
    if free + held < need:
        yield (
            f"{place}: {free / GIB:.1f} GiB free, {need / GIB:.1f} GiB needed for checkpoints (checkpoints.keep="
            f"{config.checkpoints.keep}, and one more while it is written); free space, set another output, or lower "
            "checkpoints.keep"
        )


def saved_bytes(config: TrainConfig) -> int:
    """Bytes per parameter in a checkpoint: weights, moments, average; under DeepSpeed the optimizer's weights too."""
    trainer, averaged = config.trainer, bool(getattr(config.model, "ema", 0))
    if trainer.strategy != "deepspeed":
        return FLOAT32 + MOMENTS + FLOAT32 * averaged
    short = weights_are_16_bit(trainer)  # a checkpoint then has float32 ones, averaged or not
    return (BFLOAT16 if short else FLOAT32) + FLOAT32 + MOMENTS + FLOAT32 * (averaged or short)


def _shared_memory(data: ShardDataModule, nodes: int) -> Iterator[str]:
    """Where the loaders' batches do not fit into /dev/shm: they would end in a bus error."""
    free = shared_memory_free()
    if free is None:
        return
    need = data.train_dataloader().shared_bytes()
    need += data.val_dataloader().shared_bytes() if data.clips["val"] else 0
    need = -(-need // nodes)  # counted for the batch over all ranks, of which each machine loads its part
    if need > free:
        yield (
            f"{SHARED_MEMORY}: {free / MIB:.0f} MiB free, the loaders need {need / MIB:.0f} MiB with data.workers="
            f"{data.config.workers}: start the container with --ipc=host or --shm-size={-(-2 * need // GIB)}g "
            "(Docker has 64 MB by default), or lower data.workers"
        )


def _memory(config: TrainConfig, stage: Stage, trainer: Trainer, module: LightningModule) -> Iterator[str]:
    if not (config.trainer.check_memory and trainer.strategy.root_device.type == "cuda"):
        return
    if trainer.local_rank:  # the count takes half a minute of a core; its result is the same on all ranks of a node
        return
    need = stage.step_bytes(module, config, trainer.world_size)
    if need is None:
        return
    card = torch.cuda.get_device_properties(trainer.strategy.root_device)
    if need > card.total_memory:
        yield (
            f"a training step needs about {need / GIB:.0f} GiB, {card.name} has {card.total_memory / GIB:.0f} GiB; "
            "lower data.micro_batch or data.window, use more GPUs with trainer=deepspeed, or use "
            "trainer=deepspeed_offload; trainer.check_memory=false skips this check"
        )
