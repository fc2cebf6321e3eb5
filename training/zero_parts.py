"""Repartitioning the optimizer states of a DeepSpeed checkpoint for another number of ranks.

ZeRO-1 and ZeRO-2 concatenate the float32 weights of a parameter group, and each optimizer moment, to a flat tensor. It
is padded and split equally over the ranks. For another number of ranks, the partitions are other slices of the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.checkpoint_files import zero_files
from lightning_modules.checkpoints import CheckpointError

STATES, WEIGHTS, MOMENTS = "optimizer_state_dict", "single_partition_of_fp32_groups", "base_optimizer_state"


def check_groups(checkpoint: Path, groups: int) -> None:
    """Checks that a checkpoint has the optimizer's parameter groups.

    Raises:
        CheckpointError: If it has others, as those of earlier versions, whose norms and biases had weight decay.
    """
    file = zero_files(checkpoint)[0]
    found = len(torch.load(file, map_location="cpu", mmap=True, weights_only=False)[STATES][WEIGHTS])
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
    # weights_only=False, because DeepSpeed pickles its own objects. Memory-mapped, so a rank reads only its partition.
    parts = [
        torch.load(file, map_location="cpu", mmap=True, weights_only=False)[STATES] for file in zero_files(checkpoint)
    ]
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
