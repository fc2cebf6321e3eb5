"""Writes the provenance of each start of a run to its run directory and to its loggers."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from configs.training import TrainConfig
from datamodules.schema import Index
from runtime.folders import home

STARTS = "starts.jsonl"
PACKAGES = (
    "emotivetalk", "torch", "lightning", "deepspeed", "torchmetrics", "numpy", "diffusers", "transformers",
    "webdataset", "hydra-core", "omegaconf", "wandb",
)  # fmt: skip
SLURM = (
    "JOB_ID", "JOB_NAME", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "JOB_NODELIST", "JOB_PARTITION", "NNODES",
    "NTASKS", "CLUSTER_NAME",
)  # fmt: skip


class RunLog(Callback):
    """Logs the provenance of a run, and adds a line for each start to ``starts.jsonl``.

    A killed run repeats the steps after its checkpoint. The CSV log and TensorBoard drop the earlier values of these
    steps. W&B cannot drop them and holds both. They are equal, so plots by ``trainer/global_step`` coincide.

    Args:
        config: Configuration of the run.
        indices: Dataset name -> index of its shards.
    """

    def __init__(self, config: TrainConfig, indices: Mapping[str, Index]) -> None:
        self.config, self.indices = config, indices

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs on the first process, once the step to continue from is known."""
        if not trainer.is_global_zero:
            return
        record = provenance(self.config, self.indices)
        start = {"step": trainer.global_step, "time": datetime.now(UTC).isoformat(timespec="seconds"), **record}
        if run := wandb_run(trainer.loggers):
            start["wandb"] = run
        with (Path(trainer.default_root_dir) / STARTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(start) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.global_step:
                _restart_tensorboard(logger, trainer.global_step)
            logger.log_hyperparams(record)


def wandb_run(loggers: Iterable[Logger]) -> dict[str, str | None] | None:
    """Id, project and entity of the run in W&B; None if it is not logged to W&B."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and not logger.experiment.disabled:
            run = logger.experiment
            return {"id": run.id, "project": run.project, "entity": run.entity or None}
    return None


def _restart_tensorboard(logger: TensorBoardLogger, step: int) -> None:
    """Makes TensorBoard drop what was logged from ``step`` on."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
    logger.experiment._get_file_writer().add_event(start, step=step)


def provenance(config: TrainConfig, indices: Mapping[str, Index]) -> dict[str, Any]:
    """Everything that the results of a run depend on, as plain values. The user's home folder is written ``~``.

    Args:
        config: Configuration of the run.
        indices: Dataset name -> index of its shards.
    """
    return {
        **without_home(asdict(config)),
        "git": git_state(),
        "versions": versions(),
        "data_sha256": {name: hashlib.sha256(index.to_json().encode()).hexdigest() for name, index in indices.items()},
        "machine": machine(),
        "slurm": {name.lower(): os.environ[f"SLURM_{name}"] for name in SLURM if f"SLURM_{name}" in os.environ},
    }


def git_state() -> dict[str, Any]:
    """The commit of the code, and whether files differ from it; empty outside of a checkout."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return {}  # installed inside somebody else's checkout
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def versions() -> dict[str, str]:
    """Versions of Python, CUDA and the libraries used for computing."""
    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Machine of the first process."""
    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {"host": platform.node(), "gpus": gpus, "processor": platform.machine(), "cores": os.cpu_count()}


def without_home(value: Any) -> Any:
    """Plain values with the user's home folder written ``~``."""
    found = home()
    folder = str(found) if found else ""
    if isinstance(value, dict):
        return {name: without_home(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_home(part) for part in value]
    if isinstance(value, str) and len(folder) > 1 and (value == folder or value.startswith(folder + os.sep)):
        return "~" + value[len(folder) :]
    return value
