"""Data module for a mixture of datasets, and selection of the data module by configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from configs.data import DataConfig
from datamodules.clip_list import ClipList
from datamodules.datamodule import ShardDataModule
from datamodules.order import MixtureOrder, Order, repeated
from datamodules.schema import ShardError, require_same_encoders
from encoders.protocols import Identity

PARTS = 32  # of which each dataset of a mixture by frames has a whole number


class MixtureDataModule(ShardDataModule):
    """Data module for several roots, which must be prepared with the same encoders.

    Samples are drawn in the proportions of ``data.weights``. Without weights, ``data.mix`` decides: every clip is drawn
    once per pass, or datasets are drawn in proportion to their training frames.
    """

    def __init__(
        self, config: DataConfig | None = None, encoders: Mapping[str, Identity] | None = None, **changes: Any
    ) -> None:
        super().__init__(config or DataConfig(name="mixture"), encoders, **changes)

    def roots(self) -> dict[str, str]:
        """Maps dataset names to folders or URLs."""
        return dict(self.config.roots)

    def _check_together(self) -> None:
        first = self.index
        for name, index in self.indices.items():
            require_same_encoders(index, first.encoders, self.roots()[name])
            if (index.dimensions, index.frame_size) != (first.dimensions, first.frame_size):
                raise ShardError(
                    f"{self.roots()[name]}: has {index.frame_size} px and {index.dimensions}, another root of the "
                    f"mixture has {first.frame_size} px and {first.dimensions}; prepare all with the same preset"
                )

    def _order(self, clips: ClipList, counts: np.ndarray) -> tuple[Order, bool]:
        shares = self._shares(clips)
        if not shares:
            return super()._order(clips, counts)
        readers, numbers = np.repeat(clips.readers(), counts), np.repeat(clips.shard_numbers(), counts)
        shards = []
        for number, name in enumerate(self.indices):  # clips are ordered by root, like the numbers of MixtureOrder
            group = numbers[readers == number]
            if not len(group):
                raise ShardError(f"{self.roots()[name]}: has no training clips; remove data.weights.{name}")
            shards.append(group - group.min())
        weights = [shares[name] for name in self.indices]
        return repeated(MixtureOrder(shards, weights, self.config.batch_size, self.config.seed), counts), False

    def _fingerprint(self, clips: ClipList) -> dict[str, Any]:
        return {**super()._fingerprint(clips), "data.weights": self._shares(clips)}

    def _shares(self, clips: ClipList) -> dict[str, int]:
        """Whole-number weight of each dataset; empty if every clip is drawn once per pass."""
        if self.config.weights or self.config.mix == "clips":
            return dict(self.config.weights)
        frames = np.bincount(clips.readers(), clips.frames, len(self.indices)).astype(np.int64)
        return dict(zip(self.indices, whole_shares(frames.tolist()), strict=True))


def whole_shares(amounts: Sequence[int]) -> list[int]:
    """Smallest whole numbers in the ratio of ``amounts``, which is rounded to parts of ``PARTS``; at least 1 each."""
    shares = [max(1, round(PARTS * amount / sum(amounts))) for amount in amounts]
    divisor = math.gcd(*shares)
    return [share // divisor for share in shares]


def datamodule(config: DataConfig, encoders: Mapping[str, Identity] | None = None) -> ShardDataModule:
    """Builds the data module for ``data.name``.

    Raises:
        ValueError: If the configuration is invalid; the message names the key.
    """
    kind = MixtureDataModule if config.name == "mixture" else ShardDataModule
    return kind(config, encoders)
