"""Repartitioning the optimizer states of a DeepSpeed checkpoint for another number of ranks.

ZeRO-1 and ZeRO-2 concatenate the float32 weights of a parameter group, and each optimizer moment, to a flat tensor. It
is padded and split equally over the ranks. For another number of ranks, the partitions are other slices of the tensor.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.checkpoint_files import zero_files
from lightning_modules.checkpoints import DEEPSPEED_WEIGHTS, CheckpointError
from runtime.errors import message_of
from runtime.tensors import TensorFileError, load_saved, other_classes

TAG = Path(DEEPSPEED_WEIGHTS).parent.name
# The classes of DeepSpeed's own that its optimizer states contain.
CLASSES = (
    "deepspeed.runtime.zero.config.ZeroStageEnum",
    "deepspeed.runtime.fp16.loss_scaler.LossScaler",
    "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
    "deepspeed.utils.tensor_fragment.fragment_address",
)
STATES, WEIGHTS, MOMENTS = "optimizer_state_dict", "single_partition_of_fp32_groups", "base_optimizer_state"


def check_parts(checkpoint: Path) -> None:
    """Checks that a folder is DeepSpeed's and that no part names a class that this program does not know.

    Nothing is unpickled.

    Raises:
        CheckpointError: If not. Loading the folder could otherwise run code of whoever wrote it.
    """
    latest = checkpoint / "latest"
    tag = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else ""
    if tag != TAG:
        raise CheckpointError(
            f"{checkpoint}: its file latest names {tag[:80]!r}, expected {TAG}; not written by train.py"
        )
    for file in sorted((checkpoint / TAG).glob("*.pt")):
        try:
            found = other_classes(file, CLASSES)
        except (TensorFileError, OSError) as error:
            raise CheckpointError(f"{checkpoint}: not a readable checkpoint ({message_of(error)})") from error
        if found:
            raise CheckpointError(
                f"{file}: not loaded: it has objects of {', '.join(found[:3])}, and loading those can run any code; "
                "train.py writes only tensors, numbers and DeepSpeed's own states"
            )


def load_part(file: Path) -> dict[str, Any]:
    """Loads one file of a checkpoint folder, memory-mapped, so that a rank reads only what it keeps.

    Raises:
        CheckpointError: If it is damaged or has other objects than tensors and DeepSpeed's own. No code of it has run.
    """
    modules = [name.rpartition(".") for name in CLASSES]
    safe = [getattr(importlib.import_module(module), name) for module, _, name in modules]
    try:
        found = load_saved(file, mmap=True, safe=safe)
    except (TensorFileError, OSError) as error:
        raise CheckpointError(message_of(error)) from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: has a {type(found).__name__}, expected the states of DeepSpeed")
    return found


def check_groups(checkpoint: Path, groups: int) -> None:
    """Checks that a checkpoint has the optimizer's parameter groups.

    Raises:
        CheckpointError: If it has others, as those of earlier versions, whose norms and biases had weight decay.
    """
    found = len(load_part(zero_files(checkpoint)[0])[STATES][WEIGHTS])
    if found != groups:
        raise CheckpointError(
            f"{checkpoint}: its optimizer has {found} parameter groups and this run has {groups}, so it cannot be "
            f"resumed; start a new run from its weights: another run_id, no ckpt_path, init={checkpoint}"
        )


def part_of(checkpoint: Path, rank: int, sizes: Sequence[int]) -> dict[str, Any]:
    """State dict for DeepSpeed's optimizer on one rank, from a checkpoint of any number of ranks.

    Args:
        checkpoint: Checkpoint folder.
        rank: Rank that loads the state.
        sizes: New partition size of each parameter group, including padding.
    """
    parts = [load_part(file)[STATES] for file in zero_files(checkpoint)]
    first, found = parts[0], {}
    for group, size in enumerate(sizes):
        lengths = [part[WEIGHTS][group].numel() for part in parts]  # without padding

        def own(tensors: list[Tensor], lengths: list[int] = lengths, size: int = size) -> Tensor:
            return cut([tensor[:length] for tensor, length in zip(tensors, lengths, strict=True)], rank * size, size)

        moments = {
            name: own([part[MOMENTS]["state"][group][name] for part in parts]) if _is_line(value) else value
            for name, value in first[MOMENTS]["state"][group].items()
        }
        found[group] = own([part[WEIGHTS][group] for part in parts]), moments
    return {
        **first,
        WEIGHTS: [found[group][0] for group in range(len(sizes))],
        MOMENTS: {**first[MOMENTS], "state": {group: moments for group, (_, moments) in found.items()}},
    }


def cut(parts: Sequence[Tensor], start: int, size: int) -> Tensor:
    """Slice ``[start, start + size)`` of the concatenation of ``parts``, padded with zeros beyond its end."""
    pieces, place = [], 0
    for part in parts:
        low, high = max(start, place), min(start + size, place + part.numel())
        if low < high:
            pieces.append(part[low - place : high - place])
        place += part.numel()
    line = parts[0].new_zeros(size)
    if pieces:
        found = torch.cat(pieces)
        line[: found.numel()] = found
    return line


def _is_line(value: Any) -> bool:
    """Whether a state is a moment, with one value per weight, and not the step count."""
    return isinstance(value, Tensor) and value.ndim > 0
