"""Means of validated values over the clips of all ranks.

Every rank adds the values of its clips. One collective at the end of a validation, which every rank reaches however the
clips are distributed, exchanges sums and counts. The result depends on the clips, not on the number of ranks.

Shapes: B clips.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, distributed

Sums = dict[str, tuple[float, int]]  # name -> sum of the values, number of clips


class ValidationMeans:
    """Sums of the validated values of this rank."""

    def __init__(self) -> None:
        self._sums: Sums = {}

    def add(self, values: Mapping[str, Tensor], valid: Tensor) -> None:
        """Adds the values of a batch.

        Args:
            values: name -> (B,) values, or a scalar that holds for all clips.
            valid: (B,) bool, False for clips that do not count, such as repeated ones.
        """
        for name, value in values.items():
            kept = value.detach().cpu().double().expand(len(valid))[valid.cpu()]
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + kept.sum().item(), count + len(kept))

    def log(self, module: LightningModule, prog_bar: bool = False) -> None:
        """Logs the means over all ranks as ``val/NAME`` and restarts. Must be called on every rank."""
        ranks = module.trainer.world_size
        found: list[Sums] = [self._sums] * ranks
        if ranks > 1:
            distributed.all_gather_object(found, self._sums)
        self._sums = {}
        for name in sorted({name for sums in found for name in sums}):
            totals, counts = zip(*(sums.get(name, (0.0, 0)) for sums in found), strict=True)
            if sum(counts):
                module.log(f"val/{name}", torch.tensor(sum(totals) / sum(counts)), prog_bar=prog_bar)
