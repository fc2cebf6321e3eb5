"""Multi-source emotion control (EmotiveTalk §3.5): resolves an emotion configuration to an expression latent.

    utterance sources   label, text, image, none   -> e_cond, which Di-CTE turns into a sequence
    temporal source     video                      -> e_v, frame by frame

Shapes: F frames at 25 fps, d_e expression width. Latents are in the motion encoder's units, not standardised.
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
    """Reads expression latents from images and videos. ``preparation.expression.ExpressionReader`` implements it."""

    def image(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """Returns the (d_e,) latent of the face in an image, and notes for the user."""
        ...

    def video(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """Returns the (F, d_e) latents of the face in a video, and notes for the user."""
        ...


@dataclass(frozen=True)
class ResolvedEmotion:
    """Expression latent of an emotion source. Exactly one of ``e_cond`` and ``e_v`` is set.

    Attributes:
        source: Kind of source.
        e_cond: (d_e,) latent of an utterance source; condition of Di-CTE.
        e_v: (F, d_e) latents of a temporal source, used directly as e_dri. F is the length of the video, not of the
            speech.
        notes: Notes for the user, e.g. several faces found or words ignored.
    """

    source: Source
    e_cond: Tensor | None = None
    e_v: Tensor | None = None
    notes: tuple[str, ...] = ()


class EmotionSource:
    """Resolves emotion configurations.

    Args:
        table: Label table; None if labels are not supported.
        text: Text mapping; None if texts are not supported.
        faces: Expression reader; None if images and videos are not supported.
    """

    def __init__(
        self, table: EmotionTable | None = None, text: TextEmotion | None = None, faces: Faces | None = None
    ) -> None:
        self.table = table
        self.text = text
        self.faces = faces

    def resolve(self, emotion: EmotionConfig, e_ref: Tensor) -> ResolvedEmotion:
        """Returns the latent of a configured emotion, scaled by its strength.

        Args:
            emotion: Configuration with at most one of label, text, image and video. None of them means the portrait's
                own expression.
            e_ref: (d_e,) expression latent of the portrait.

        Returns:
            e_ref + strength * (source - e_ref): exactly e_ref at 0, exactly the source at 1. A strength from 1 to 2
            extrapolates, possibly to expressions outside of the training data.

        Raises:
            EmotionError: For several sources, a strength out of range, an unknown emotion or level, a source that is
                not supported, or latents of different widths.
            TextError: For a text that cannot be mapped.
            UserError: For an image or video without a usable face.
            MediaError: For a video that cannot be read.
        """
        source = check_emotion(emotion)
        if not e_ref.isfinite().all():
            raise EmotionError("e_ref: the portrait's expression latent holds NaN or infinite values")
        latent, notes = self._latent(emotion, source, e_ref)
        if latent.shape[-1] != e_ref.shape[-1]:
            raise EmotionError(
                f"emotion.{source}: its expression latent has width {latent.shape[-1]}, the portrait's has width "
                f"{e_ref.shape[-1]}; use a table, mapping and motion encoder of one experiment"
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
    """Validates an emotion configuration and returns the source that it names.

    Raises:
        EmotionError: For several sources, a level without a label, or a strength outside of [0, 2].
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
            f"emotion: {' and '.join(f'emotion.{name}' for name in named)} are given together; give one, or none for "
            "the portrait's own expression"
        )
    if emotion.level is not None and emotion.label is None:
        raise EmotionError(f"emotion.level={emotion.level}: needs emotion.label, which is not given")
    if not (math.isfinite(emotion.strength) and 0 <= emotion.strength <= MAX_STRENGTH):
        raise EmotionError(
            f"emotion.strength={emotion.strength}: expected a number from 0 (the portrait's own expression) to "
            f"{MAX_STRENGTH:g}; 1 is the source's expression"
        )
    return named[0] if named else "portrait"


def blend(e_ref: Tensor, source: Tensor, strength: float) -> Tensor:
    """(d_e,) and (..., d_e) -> e_ref + strength * (source - e_ref), exact at 0 and 1."""
    return torch.lerp(e_ref.expand_as(source), source, strength)
