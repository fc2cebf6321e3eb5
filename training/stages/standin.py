"""Stand-ins for the metrics' networks."""

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
    """A small network of the kind a metric's official one is."""

    name = "standin"
    config = StandInConfig

    @classmethod
    def fields(cls, model: StandInConfig) -> Sequence[str]:
        """What its kind learns from."""
        return FIELDS.get(model.kind, ())

    def build(self, config: TrainConfig, data: ShardDataModule) -> StandInModule:
        """A new network of ``model.kind``."""
        from lightning_modules.standin.module import build_stand_in

        return build_stand_in(config.model, data, config.trainer.max_steps, config.seed)
