"""Emotion stage: label table and text mapping."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from configs.emotion import EmotionModelConfig
from configs.preparation import EncoderConfig
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

    @classmethod
    def narrow(cls, model: EmotionModelConfig) -> EmotionModelConfig:
        """The text encoder without weights."""
        return replace(model, text=EncoderConfig("ngram"))

    def try_encoders(self, config: TrainConfig, data: ShardDataModule) -> Iterator[tuple[str, Callable[[], str]]]:
        """Builds the text encoder and encodes a phrase."""
        from encoders.factory import build_text_encoder
        from encoders.weight_files import MissingWeights

        def text() -> str:
            chosen = config.model.text
            try:
                features = build_text_encoder(chosen.name, "cpu", **chosen.options)(["with a happy voice"])
            except MissingWeights as error:
                raise MissingWeights(
                    f"{chosen.name}: {str(error).split(' (')[0]}; the training encodes its phrases with it: run "
                    "prepare.py task=weights preset=paper"
                ) from error
            return f"{chosen.name}: built, encodes a phrase to {features.shape[1]} features"

        yield "text", text

    def build(self, config: TrainConfig, data: ShardDataModule) -> EmotionModule:
        """Computes the label table from the training clips and builds an untrained text mapping."""
        from lightning_modules.emotion.module import build_emotion

        return build_emotion(config.model, data, config.trainer.max_steps, config.seed, device_of(config))
