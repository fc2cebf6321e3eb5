"""Schemas of the emotion source of a video, and of the experiment that maps labels and texts to e_cond."""

from __future__ import annotations

from dataclasses import dataclass

from configs.fields import at_least, between, literal, positive, registered, share
from configs.preparation import EncoderConfig
from configs.registries import ENCODERS


@dataclass
class EmotionConfig:
    """Emotion source of a generated video: at most one of label, text, image and video.

    Attributes:
        label: Emotion of the label table, e.g. happy.
        level: Intensity of the label, 1 to 3; null for 2, or the nearest level in the table.
        text: Description of how to speak.
        image: Picture of any person with the desired expression.
        video: Video whose expression is transferred frame by frame.
        strength: 0 is the portrait's own expression, 1 the expression of the source; up to 2 exaggerates it.
    """

    label: str | None = literal(None)
    level: int | None = between(None, 1, 3)
    text: str | None = literal(None)
    image: str | None = literal(None)
    video: str | None = literal(None)
    strength: float = between(1.0, 0, 2)


@dataclass
class EmotionModelConfig:
    """Emotion experiment: table of mean latents of labelled shards, and a mapping from text to these latents.

    Attributes:
        text: Frozen text encoder.
        hidden: Width of the mapping's hidden layer.
        dropout: Dropout rate of the text features.
        batch_size: Phrases per step.
        lr: Initial learning rate of AdamW; it decays to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
    """

    text: EncoderConfig = registered(ENCODERS["text"], EncoderConfig)
    hidden: int = positive(256)
    dropout: float = share(0.2)
    batch_size: int = positive(256)
    lr: float = positive(3e-3)
    weight_decay: float = at_least(0.01, 0)
