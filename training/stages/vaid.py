"""Stage 1: V-AID."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs.registries import ENCODERS
from configs.training import TrainConfig, VAIDConfig
from training.stages.stage import Stage

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from callbacks.latent_plots import Names
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.vaid.module import VAIDModule


class VAIDStage(Stage):
    """Trains the prediction of lip and expression latents from speech."""

    name = "vaid"
    config = VAIDConfig
    needs = ("audio", "lip", "expression", "portraits")
    accumulates = True

    def build(self, config: TrainConfig, data: ShardDataModule) -> VAIDModule:
        """Builds an untrained V-AID with the statistics of the training clips."""
        from lightning_modules.vaid.module import VAIDModule
        from lightning_modules.vaid.statistics import motion_statistics

        module = VAIDModule(config.model, data.dimensions, data.index.encoders, config.trainer.max_steps, config.seed)
        motions = ((f"{clip.entry.shard}: {clip.key}", lip, expression) for clip, lip, expression in data.motions())
        module.vaid.set_statistics(motion_statistics(motions))
        return module

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Plots of latents, and training speed."""
        from callbacks.latent_plots import LatentPlots
        from callbacks.throughput import Throughput

        return [LatentPlots(folder, latent_names(data.index.encoders["motion"].name)), Throughput()]


def latent_names(motion_encoder: str) -> Names | None:
    """Names of the dimensions of lip and expression latents; None if the motion encoder does not define them."""
    if motion_encoder not in ENCODERS["motion"]:
        return None
    encoder = ENCODERS["motion"].get(motion_encoder)
    return (encoder.lip_names, encoder.expression_names) if hasattr(encoder, "lip_names") else None
