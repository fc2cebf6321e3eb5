"""What a run was made from: its configuration, the code, the libraries, the data and the machine."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from configs.training import TrainConfig
from datamodules.schema import Index

PACKAGES = (
    "emotivetalk", "torch", "lightning", "deepspeed", "torchmetrics", "numpy", "diffusers", "transformers",
    "webdataset", "hydra-core", "omegaconf", "wandb",
)  # fmt: skip
SLURM = (
    "JOB_ID", "JOB_NAME", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT", "JOB_NODELIST", "JOB_PARTITION", "NNODES",
    "NTASKS", "CLUSTER_NAME",
)  # fmt: skip


def provenance(config: TrainConfig, indices: Mapping[str, Index]) -> dict[str, Any]:
    """Everything a number of this run depends on, as plain values; the user's home folder is written ``~``.

    Args:
        config: of the run.
        indices: of the data, by name.
    """
    return {
        **_without_home(asdict(config)),
        "git": git_state(),
        "versions": versions(),
        "data_sha256": {name: hashlib.sha256(index.to_json().encode()).hexdigest() for name, index in indices.items()},
        "machine": machine(),
        "slurm": {name.lower(): os.environ[f"SLURM_{name}"] for name in SLURM if f"SLURM_{name}" in os.environ},
    }


def git_state() -> dict[str, Any]:
    """The commit of the code and whether files differ from it; empty where the code is no checkout."""
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
    """Of Python, CUDA and the libraries that compute."""
    found = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """What the first process runs on."""
    gpus = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    return {"host": platform.node(), "gpus": gpus, "processor": platform.machine(), "cores": os.cpu_count()}


def _without_home(value: Any) -> Any:
    home = str(Path.home())
    if isinstance(value, dict):
        return {name: _without_home(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_home(part) for part in value]
    if isinstance(value, str) and len(home) > 1 and (value == home or value.startswith(home + os.sep)):
        return "~" + value[len(home) :]
    return value
