"""Base class of training stages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from configs.training import TrainConfig
from runtime.devices import resolve_device

if TYPE_CHECKING:  # the configuration is checked before Lightning is imported
    from lightning.pytorch import Callback, LightningModule

    from datamodules.datamodule import ShardDataModule


class Stage:
    """Base class of stages. A stage outside of this repository is configured as ``stage=module.Class``.

    Attributes:
        name: Name in configurations and checkpoints; runs are written to ``output/NAME``.
        config: Dataclass of ``model``.
        needs: Fields that every batch must have.
        bfloat16: Whether it can be trained with bfloat16 weights.
        videos: Whether it supports ``videos``: samples and metrics of validation clips.
        own_loaders: Whether the module has its own loaders; otherwise batches are read from the shards.
        accumulates: Whether its training step accepts a list of micro-batches, see
            ``lightning_modules.accumulation``. Set it only if the gradients are those of one pass over all clips.
    """

    name: ClassVar[str]
    config: ClassVar[type]
    needs: ClassVar[tuple[str, ...]] = ()
    bfloat16: ClassVar[bool] = False
    videos: ClassVar[bool] = False
    own_loaders: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False

    @classmethod
    def fields(cls, model: Any) -> Sequence[str]:
        """Fields that every batch must have for this configuration of ``model``."""
        return cls.needs

    def build(self, config: TrainConfig, data: ShardDataModule) -> LightningModule:
        """Builds an untrained module for the data."""
        raise NotImplementedError

    def start(self, module: Any) -> None:
        """Initialises the module of a new run, e.g. with pretrained weights. Not called when a run is resumed."""

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Callbacks of the stage."""
        return []

    def step_bytes(self, module: Any, config: TrainConfig, ranks: int) -> float | None:
        """Bytes of GPU memory that a step needs on each of ``ranks`` ranks; None if unknown."""
        return None


def device_of(config: TrainConfig) -> str:
    """Device of frozen networks in a training run."""
    return resolve_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
