"""Emotion stage: label table and text mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.emotion import EmotionModelConfig
from configs.training import TrainConfig
from training.stages.stage import Stage, device_of

if TYPE_CHECKING:
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.emotion.module import EmotionModule


class EmotionStage(Stage):
    """Trains a text mapping to a table of mean latents. Uses its own loaders, since texts are not in the shards."""

    name = "emotion"
    config = EmotionModelConfig
    own_loaders = True

    def build(self, config: TrainConfig, data: ShardDataModule) -> EmotionModule:
        """Computes the label table from the training clips and builds an untrained text mapping."""
        from lightning_modules.emotion.module import build_emotion

        return build_emotion(config.model, data, config.trainer.max_steps, config.seed, device_of(config))
