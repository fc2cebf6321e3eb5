"""Mixtures of datasets, and the datamodule a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from configs.data import DataConfig
from datamodules.clip_windows import Clip
from datamodules.datamodule import ShardDataModule
from datamodules.order import MixtureOrder, Order
from datamodules.schema import ShardError, require_same_encoders
from encoders.protocols import Identity


class MixtureDataModule(ShardDataModule):
    """Several roots at once, drawn by ``data.weights`` or, without, each clip once per pass.

    All roots must have been prepared by the same encoders.
    """

    def __init__(
        self, config: DataConfig | None = None, encoders: Mapping[str, Identity] | None = None, **changes: Any
    ) -> None:
        super().__init__(config or DataConfig(name="mixture"), encoders, **changes)

    def roots(self) -> dict[str, str]:
        """Name -> folder or URL."""
        return dict(self.config.roots)

    def _check_together(self) -> None:
        first = self.index
        for name, index in self.indices.items():
            require_same_encoders(index, first.encoders, self.roots()[name])
            if (index.dimensions, index.frame_size) != (first.dimensions, first.frame_size):
                raise ShardError(
                    f"{self.roots()[name]}: {index.frame_size} px and {index.dimensions}, but another root of the "
                    f"mixture has {first.frame_size} px and {first.dimensions}; prepare them with one preset"
                )

    def _order(self, clips: list[Clip]) -> Order:
        if not self.config.weights:
            return super()._order(clips)
        groups: list[list[str]] = [[] for _ in self.indices]
        for clip in clips:  # clips stand root by root, as MixtureOrder numbers them
            groups[clip.reader].append(clip.entry.shard)
        for name, group in zip(self.indices, groups, strict=True):
            if not group:
                raise ShardError(f"{self.roots()[name]}: has no training clips, but data.weights.{name} asks for some")
        shards = [[sorted(set(group)).index(shard) for shard in group] for group in groups]
        weights = [self.config.weights[name] for name in self.indices]
        return MixtureOrder(shards, weights, self.config.batch_size, self.config.seed)


def datamodule(config: DataConfig, encoders: Mapping[str, Identity] | None = None) -> ShardDataModule:
    """The datamodule that ``data.name`` asks for.

    Raises:
        ValueError: for a configuration that cannot be, naming the key.
    """
    kind = MixtureDataModule if config.name == "mixture" else ShardDataModule
    return kind(config, encoders)
