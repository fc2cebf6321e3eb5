"""Reading checkpoints of any stage, and the errors for one of the wrong stage or of other encoders."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoders.protocols import Identity
from runtime.errors import UserError, message_of
from runtime.tensors import TensorFileError, damaged_member, load_saved
from runtime.verified import verified_once

CHECKPOINT_INFO = "emotivetalk"  # checkpoint key that holds the stage, sizes and encoders
EMA = "ema"  # checkpoint key: {"weights": {parameter name: float32 average}, "updates": number of averaged steps}

UNREADABLE = "not a readable checkpoint (truncated, or not written by torch)"
# Up to ZeRO stage 2, rank 0 writes all weights; only the optimizer states are sharded.
DEEPSPEED_WEIGHTS = "checkpoint/mp_rank_00_model_states.pt"


class CheckpointError(UserError):
    """A checkpoint that cannot be used."""


def checkpoint_file(run: str | Path) -> Path:
    """Path of the last checkpoint of a run directory; the path of a checkpoint is returned unchanged.

    The path is that of the file that ``last.ckpt`` names now, so it stays the same while the run goes on.

    Raises:
        CheckpointError: If the file or directory does not exist, or the directory holds no checkpoint.
    """
    path = weights_file(_named_now(Path(run)))
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run or checkpoint; train.py writes run directories under outputs/")
    last = path / "checkpoints" / "last.ckpt"
    if not last.exists():
        raise CheckpointError(f"{path}: has no checkpoints/last.ckpt; expected a run directory of train.py or a .ckpt")
    return weights_file(_named_now(last))


def _named_now(path: Path) -> Path:
    """The checkpoint that a link such as ``last.ckpt`` names now; another path is returned unchanged."""
    return path.parent / os.readlink(path) if path.suffix == ".ckpt" and path.is_symlink() else path


def run_of(checkpoint: Path) -> Path:
    """Run directory of a checkpoint file, which under DeepSpeed lies inside a checkpoint folder."""
    return next((folder.parent for folder in checkpoint.parents if folder.name == "checkpoints"), checkpoint.parent)


def weights_file(path: str | Path) -> Path:
    """File that holds the weights: the checkpoint itself, or a file inside the folder that DeepSpeed writes."""
    inside = Path(path, DEEPSPEED_WEIGHTS)
    return inside if inside.is_file() else Path(path)


def read_checkpoint(path: str | Path, stage: str) -> dict[str, Any]:
    """Reads a checkpoint of a given stage onto the CPU.

    Args:
        path: Checkpoint file, or the folder that DeepSpeed writes.
        stage: Required stage, e.g. ``vaid``.

    Raises:
        CheckpointError: If it is missing, damaged anywhere, or of another stage.
    """
    file = weights_file(path)
    if file.is_file() and (damage := content_damage(file)):
        raise CheckpointError(f"{path}: {damage}; use a whole one, such as an earlier checkpoint of the run")
    checkpoint = open_checkpoint(path)
    check_stage(checkpoint, stage, path)
    if "module" in checkpoint:  # DeepSpeed's key for the state dict
        checkpoint["state_dict"] = checkpoint.pop("module")
    return checkpoint


def open_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint of any stage onto the CPU.

    Raises:
        CheckpointError: If it is missing or damaged.
    """
    file = weights_file(path)
    if file.is_file() and not zipfile.is_zipfile(file):
        raise CheckpointError(f"{path}: {UNREADABLE}")
    try:
        # Memory-mapped: reading one key of a large checkpoint does not load all of it.
        found = load_saved(file, mmap=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint; train.py writes them to its run directory") from None
    except (TensorFileError, OSError) as error:
        raise CheckpointError(f"{path}: not a readable checkpoint ({message_of(error)})") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: not a checkpoint of train.py (it holds a {type(found).__name__})")
    return found


def content_damage(file: Path, again: bool = False) -> str | None:
    """What is wrong with the content of a file of a checkpoint, by its checksums; None if it is whole.

    The file is read once by one process, and the outcome is remembered (``runtime/verified.py``), unless ``again``.
    """
    try:
        if not zipfile.is_zipfile(file):
            return UNREADABLE
        member = verified_once(file, "CRC", lambda: damaged_member(file), again)
    except (OSError, zipfile.BadZipFile) as error:
        return f"not a readable checkpoint ({message_of(error)})"
    return f"not a whole checkpoint ({file.name}/{member} was damaged after it was written)" if member else None


def check_stage(checkpoint: Mapping[str, Any], stage: str, where: str | Path) -> None:
    """Checks that a checkpoint is of the given stage.

    Raises:
        CheckpointError: If it is not; the message names both stages.
    """
    info = checkpoint.get(CHECKPOINT_INFO) if isinstance(checkpoint, Mapping) else None
    if not isinstance(info, Mapping) or "stage" not in info:
        raise CheckpointError(f"{where}: was not written by train.py; expected a checkpoint of stage {stage}")
    if info["stage"] != stage:
        raise CheckpointError(f"{where}: is a checkpoint of stage {info['stage']}; expected one of stage {stage}")


def check_encoders(found: Mapping[str, Identity], wanted: Mapping[str, Identity], where: str | Path) -> None:
    """Checks that a checkpoint and the data were made with the same encoders.

    Args:
        found: kind -> identity in the checkpoint.
        wanted: kind -> identity in the data. Only kinds in both are compared.
        where: Name of the checkpoint, for the message.

    Raises:
        CheckpointError: If encoders differ; the message names them.
    """
    wrong = [
        f"{kind}: the checkpoint was trained on {found[kind]}, the data was made with {wanted[kind]}"
        for kind in found.keys() & wanted.keys()
        if found[kind] != wanted[kind]
    ]
    if wrong:
        raise CheckpointError(
            f"{where}: {'; '.join(sorted(wrong))}. Prepare the data with the checkpoint's encoders, or train a new run"
        )
