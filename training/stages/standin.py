"""Proxy networks that replace the metrics' official networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.standin import StandInConfig
from configs.training import TrainConfig
from training.stages.stage import Stage

if TYPE_CHECKING:
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.standin.module import StandInModule

FIELDS = {
    "sync": ("video", "boxes", "speech"),
    "image": ("video", "lip", "expression"),
    "video": ("video", "lip", "expression"),
    "expression": ("video", "boxes", "factors"),
}


class StandInStage(Stage):
    """Trains a small network of the same kind as a metric's official network."""

    name = "standin"
    config = StandInConfig

    @classmethod
    def fields(cls, model: StandInConfig) -> Sequence[str]:
        """Fields that the configured kind of network is trained on."""
        return FIELDS.get(model.kind, ())

    def build(self, config: TrainConfig, data: ShardDataModule) -> StandInModule:
        """Builds an untrained network of ``model.kind``."""
        from lightning_modules.standin.module import build_stand_in

        return build_stand_in(config.model, data, config.trainer.max_steps, config.seed)
