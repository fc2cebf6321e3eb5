"""Emotion by label and by words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.emotion import EmotionModelConfig
from configs.training import TrainConfig
from training.stages.stage import Stage, device_of

if TYPE_CHECKING:
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.emotion.module import EmotionModule


class EmotionStage(Stage):
    """A table of mean latents, and a text mapping onto it. Texts are not in the shards: it has its own loaders."""

    name = "emotion"
    config = EmotionModelConfig
    own_loaders = True

    def build(self, config: TrainConfig, data: ShardDataModule) -> EmotionModule:
        """The label table of the training clips, and a new text mapping."""
        from lightning_modules.emotion.module import build_emotion

        return build_emotion(config.model, data, config.trainer.max_steps, config.seed, device_of(config))
