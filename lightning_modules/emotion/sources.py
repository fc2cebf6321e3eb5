"""Multi-source emotion control (EmotiveTalk §3.5): whatever the emotion comes from, one answer.

    utterance sources   label, text, image, nothing   -> e_cond, which Di-CTE turns into a sequence
    temporal source     video                         -> e_v, frame by frame

Shapes: F frames at 25 fps, d_e expression width. Latents are those of the motion encoder, not standardised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from configs.emotion import EmotionConfig
from lightning_modules.emotion.emotion_table import EmotionError, EmotionTable
from lightning_modules.emotion.text_mapping import TextEmotion

MAX_STRENGTH = 2.0
Part = TypeVar("Part")
Source = Literal["portrait", "label", "text", "image", "video"]


class Faces(Protocol):
    """Measures expressions in pictures and videos; ``preparation.expression.ExpressionReader`` does."""

    def image(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """(d_e,) of the face in a picture, and notes."""
        ...

    def video(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """(F, d_e) of the face in a video, and notes."""
        ...


@dataclass(frozen=True)
class ResolvedEmotion:
    """What drives the expression: exactly one of the two latents is there.

    Attributes:
        source: where it came from.
        e_cond: (d_e,) of an utterance source, for Di-CTE.
        e_v: (F, d_e) of a temporal source, which drives the face itself; as long as the video, not as the speech.
        notes: what a person should know (several faces, words passed over).
    """

    source: Source
    e_cond: Tensor | None = None
    e_v: Tensor | None = None
    notes: tuple[str, ...] = ()


class EmotionSource:
    """Resolves what a user asks for.

    Args:
        table: for labels; None where no table was learned.
        text: for texts; None where no mapping was trained.
        faces: for images and videos; None where no landmark detector is there.
    """

    def __init__(
        self, table: EmotionTable | None = None, text: TextEmotion | None = None, faces: Faces | None = None
    ) -> None:
        self.table = table
        self.text = text
        self.faces = faces

    def resolve(self, emotion: EmotionConfig, e_ref: Tensor) -> ResolvedEmotion:
        """The latent an emotion configuration asks for, at its strength.

        Args:
            emotion: at most one of label, text, image and video; none is the portrait's own expression.
            e_ref: (d_e,) expression latent of the portrait.

        Returns:
            e_ref + strength * (source - e_ref): exactly e_ref at 0 and exactly the source at 1. Above 1 the same line
            is followed on, up to 2; what lies there need not be an expression that training ever saw.

        Raises:
            EmotionError: for several sources, a strength out of range, an unknown emotion or level, a source whose part
                is not there, or latents of another width.
            TextError: for a text that cannot be read.
            UserError: for a picture or video without a usable face.
            MediaError: for a video that cannot be read.
        """
        source = check_emotion(emotion)
        if not e_ref.isfinite().all():
            raise EmotionError("e_ref: the portrait's expression latent holds NaN or infinite values")
        latent, notes = self._latent(emotion, source, e_ref)
        if latent.shape[-1] != e_ref.shape[-1]:
            raise EmotionError(
                f"emotion.{source}: gives an expression latent of {latent.shape[-1]} numbers, the portrait's has "
                f"{e_ref.shape[-1]}; table, mapping and motion encoder must belong to one experiment"
            )
        latent = blend(e_ref, latent.to(e_ref), emotion.strength)
        if source == "video":
            return ResolvedEmotion(source, e_v=latent, notes=notes)
        return ResolvedEmotion(source, e_cond=latent, notes=notes)

    def _latent(self, emotion: EmotionConfig, source: Source, e_ref: Tensor) -> tuple[Tensor, tuple[str, ...]]:
        if emotion.label is not None:
            return self._required(self.table, source, "a label table").lookup(emotion.label, emotion.level), ()
        if emotion.text is not None:
            return self._required(self.text, source, "a text mapping")(emotion.text)
        if emotion.image is not None:
            return self._required(self.faces, source, "a landmark detector").image(emotion.image)
        if emotion.video is not None:
            return self._required(self.faces, source, "a landmark detector").video(emotion.video)
        return e_ref, ()

    @staticmethod
    def _required(part: Part | None, source: Source, what: str) -> Part:
        if part is None:
            learn = (
                "; train it (train.py experiment=emotion/...) and export with emotion=RUN, or name its files"
                if source in ("label", "text")
                else ""
            )
            raise EmotionError(f"emotion.{source}: needs {what}, which is not loaded{learn}")
        return part


def check_emotion(emotion: EmotionConfig) -> Source:
    """Which source a configuration names.

    Raises:
        EmotionError: for several sources, a level without a label, or a strength that is not between 0 and 2.
    """
    given: dict[Source, str | None] = {
        "label": emotion.label,
        "text": emotion.text,
        "image": emotion.image,
        "video": emotion.video,
    }
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise EmotionError(
            f"emotion: {' and '.join(f'emotion.{name}' for name in named)} are both given; name one, or none for the "
            "portrait's own expression"
        )
    if emotion.level is not None and emotion.label is None:
        raise EmotionError(f"emotion.level={emotion.level}: belongs to emotion.label, which is not given")
    if not (math.isfinite(emotion.strength) and 0 <= emotion.strength <= MAX_STRENGTH):
        raise EmotionError(
            f"emotion.strength={emotion.strength}: expected 0 (the portrait's own expression) to {MAX_STRENGTH:g}; 1 "
            "is the source's"
        )
    return named[0] if named else "portrait"


def blend(e_ref: Tensor, source: Tensor, strength: float) -> Tensor:
    """(d_e,) and (..., d_e) -> e_ref + strength * (source - e_ref), exact at 0 and 1."""
    return torch.lerp(e_ref.expand_as(source), source, strength)
