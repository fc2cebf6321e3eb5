"""What a checkpoint says about itself, and the errors when it is not the one that is needed."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from encoders.protocols import Identity
from runtime.errors import UserError

CHECKPOINT_INFO = "emotivetalk"  # key of the checkpoint under which its stage, sizes and encoders stand

# Up to ZeRO stage 2 the first rank writes all weights; only the optimizer's state is in parts.
DEEPSPEED_WEIGHTS = "checkpoint/mp_rank_00_model_states.pt"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file, what was found, and what to do."""


def checkpoint_file(run: str | Path) -> Path:
    """The checkpoint of a run directory, its last; a file is taken as it is.

    Raises:
        CheckpointError: when there is no such file or directory, or no checkpoint in it.
    """
    path = weights_file(run)
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run or checkpoint; train.py writes run directories under outputs/")
    last = path / "checkpoints" / "last.ckpt"
    if not last.exists():
        raise CheckpointError(f"{path}: has no checkpoints/last.ckpt; expected a run directory of train.py or a .ckpt")
    return weights_file(last)


def weights_file(path: str | Path) -> Path:
    """The file to read of a checkpoint: itself, or the one inside the folder that DeepSpeed writes in its place."""
    inside = Path(path, DEEPSPEED_WEIGHTS)
    return inside if inside.is_file() else Path(path)


def read_checkpoint(path: str | Path, stage: str) -> dict[str, Any]:
    """Reads a checkpoint of one stage onto the CPU.

    Args:
        path: the file, or the folder that DeepSpeed writes in its place.
        stage: the stage that must have written it, e.g. ``vaid``.

    Raises:
        CheckpointError: when it is missing, damaged, or of another stage.
    """
    checkpoint = open_checkpoint(path)
    check_stage(checkpoint, stage, path)
    if "module" in checkpoint:  # DeepSpeed's name for it
        checkpoint["state_dict"] = checkpoint.pop("module")
    return checkpoint


def open_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint of any stage holds, on the CPU.

    Raises:
        CheckpointError: when it is missing or damaged.
    """
    file = weights_file(path)
    if file.is_file() and not zipfile.is_zipfile(file):
        raise CheckpointError(f"{path}: not a readable checkpoint (cut off, or not written by torch)")
    try:
        # Mapped, so that a glance at a large checkpoint costs nothing.
        return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; train.py writes them to its run directory") from None
    except Exception as error:  # torch raises whatever the damaged bytes lead it to
        raise CheckpointError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]})") from error


def check_stage(checkpoint: Mapping[str, Any], stage: str, where: str | Path) -> None:
    """Refuses a checkpoint of another stage.

    Raises:
        CheckpointError: naming both stages.
    """
    info = checkpoint.get(CHECKPOINT_INFO) if isinstance(checkpoint, Mapping) else None
    if not info:
        raise CheckpointError(f"{where}: was not written by train.py; a checkpoint of stage {stage} is needed")
    if info["stage"] != stage:
        raise CheckpointError(f"{where}: is a checkpoint of stage {info['stage']}, one of stage {stage} is needed here")


def check_encoders(found: Mapping[str, Identity], wanted: Mapping[str, Identity], where: str | Path) -> None:
    """Refuses to mix features and statistics of different encoders.

    Args:
        found: kind -> identity in the checkpoint.
        wanted: kind -> identity of the data; only kinds in both are compared.
        where: the checkpoint.

    Raises:
        CheckpointError: naming the encoders that differ.
    """
    wrong = [
        f"{kind}: the checkpoint was trained on {found[kind]}, the data is of {wanted[kind]}"
        for kind in found.keys() & wanted.keys()
        if found[kind] != wanted[kind]
    ]
    if wrong:
        raise CheckpointError(
            f"{where}: {'; '.join(sorted(wrong))}. Prepare the data with the checkpoint's encoders, or train anew"
        )
