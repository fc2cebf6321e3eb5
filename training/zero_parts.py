"""The optimizer's parts of a DeepSpeed checkpoint, cut anew for another number of ranks.

ZeRO-1 and ZeRO-2 lay a group's float32 weights, and each of the optimizer's moments, end to end and give every rank an
equal stretch, filled up at the end. So on another number of ranks each stretch is a slice of the same line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_modules.checkpoint_files import zero_files

STATES, WEIGHTS, MOMENTS = "optimizer_state_dict", "single_partition_of_fp32_groups", "base_optimizer_state"


def part_of(checkpoint: Path, rank: int, sizes: Sequence[int]) -> dict[str, Any]:
    """What DeepSpeed's optimizer of a rank loads, from a checkpoint of any number of ranks.

    Args:
        checkpoint: the folder.
        rank: whose part it is.
        sizes: of each group, how many weights a rank now holds, filling included.
    """
    # DeepSpeed pickles objects of its own beside the tensors. Mapped: a rank reads its own stretch only.
    parts = [
        torch.load(file, map_location="cpu", mmap=True, weights_only=False)[STATES] for file in zero_files(checkpoint)
    ]
    first, found = parts[0], {}
    for group, size in enumerate(sizes):
        lengths = [part[WEIGHTS][group].numel() for part in parts]  # without filling

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
    """``size`` values from ``start`` on of a line that is given in parts, with zeros where it has ended."""
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
    """Whether it is a moment, with a value for each weight, and not the number of steps."""
    return isinstance(value, Tensor) and value.ndim > 0
