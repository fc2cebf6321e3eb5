"""Proxies for the metrics' networks."""

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
    """A small network of the kind a metric's official one is."""

    name = "proxy"
    config = ProxyConfig

    @classmethod
    def fields(cls, model: ProxyConfig) -> Sequence[str]:
        """What its kind learns from."""
        return FIELDS.get(model.kind, ())

    def build(self, config: TrainConfig, data: ShardDataModule) -> ProxyModule:
        """A new network of ``model.kind``."""
        from lightning_modules.proxy.module import build_proxy

        return build_proxy(config.model, data, config.trainer.max_steps, config.seed)
