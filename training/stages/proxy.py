"""Proxy networks that replace the metrics' official networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.proxy import ProxyConfig
from configs.training import TrainConfig
from training.stages.stage import Stage

if TYPE_CHECKING:
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.proxy.module import ProxyModule

FIELDS = {
    "sync": ("video", "boxes", "speech"),
    "image": ("video", "lip", "expression"),
    "video": ("video", "lip", "expression"),
    "expression": ("video", "boxes", "factors"),
}


class ProxyStage(Stage):
    """Trains a small network of the same kind as a metric's official network."""

    name = "proxy"
    config = ProxyConfig

    @classmethod
    def fields(cls, model: ProxyConfig) -> Sequence[str]:
        """Fields that the configured kind of network is trained on."""
        return FIELDS.get(model.kind, ())

    def build(self, config: TrainConfig, data: ShardDataModule) -> ProxyModule:
        """Builds an untrained network of ``model.kind``."""
        from lightning_modules.proxy.module import build_proxy

        return build_proxy(config.model, data, config.trainer.max_steps, config.seed)
