"""The types of the emotion configurations: what a user asks for, and the experiment that learns labels and texts."""

from __future__ import annotations

from dataclasses import dataclass

from configs.fields import at_least, between, literal, positive, registered, share
from configs.preparation import EncoderConfig
from configs.registries import ENCODERS


@dataclass
class EmotionConfig:
    """Where the emotion of a generated video comes from; at most one of label, text, image and video.

    Attributes:
        label: an emotion of the label table, e.g. happy.
        level: 1 to 3, with label; null for 2, or the nearest there is.
        text: words that say how to speak.
        image: picture of any person with the wanted expression.
        video: video whose expression is taken over frame by frame.
        strength: 0 is the portrait's own expression, 1 the source's; up to 2 exaggerates it.
    """

    label: str | None = literal(None)
    level: int | None = between(None, 1, 3)
    text: str | None = literal(None)
    image: str | None = literal(None)
    video: str | None = literal(None)
    strength: float = between(1.0, 0, 2)


@dataclass
class EmotionModelConfig:
    """The emotion experiment: a table of mean latents from labelled shards, and a text mapping onto it.

    Attributes:
        text: the frozen text encoder.
        hidden: width of the mapping's hidden layer.
        dropout: share of the text features dropped in training.
        batch_size: phrases per step.
        lr: learning rate of AdamW at the start; it falls to 0 along a cosine.
        weight_decay: of AdamW.
    """

    text: EncoderConfig = registered(ENCODERS["text"], EncoderConfig)
    hidden: int = positive(256)
    dropout: float = share(0.2)
    batch_size: int = positive(256)
    lr: float = positive(3e-3)
    weight_decay: float = at_least(0.01, 0)
