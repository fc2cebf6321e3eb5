"""One clip of a synthetic speaker: sound, picture, landmarks and the factors behind them.

Shapes: F frames, S side of the picture in pixels, K factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from preparation.synthetic.emotions import VOICES, strength
from preparation.synthetic.face import build_face
from preparation.synthetic.motion import FACTOR_NAMES, factors_of
from preparation.synthetic.render import render
from preparation.synthetic.shapes import FaceShape
from preparation.synthetic.synthetic_speech import speak
from preparation.synthetic.world import SyntheticPerson


@dataclass(frozen=True)
class SyntheticClip:
    """A clip whose truth is known.

    Attributes:
        identity: who speaks.
        size: S.
        sound: (640 F,) float32 mono at 16 kHz in [-1, 1].
        landmarks: (F, 68, 2) float32 in pixels, pixel centres at half-integers, in the order of iBUG's 300-W.
        factors: (F, K) float32, columns named by ``factor_names``.
    """

    identity: SyntheticPerson
    size: int
    sound: np.ndarray
    landmarks: np.ndarray
    factors: np.ndarray
    face: FaceShape
    factor_names: tuple[str, ...] = FACTOR_NAMES

    def __len__(self) -> int:
        return len(self.factors)

    def frames(self) -> Iterator[np.ndarray]:
        """Draws the frames one by one, (S, S, 3) uint8 RGB; may be called again."""
        return render(self.identity, self.face, self.size)

    def factor(self, name: str) -> np.ndarray:
        """(F,) one factor by its name."""
        return self.factors[:, self.factor_names.index(name)]


def render_clip(
    identity: SyntheticPerson,
    emotion: str,
    level: int,
    sentence_seed: int,
    seconds: float,
    size: int,
    *,
    voice_emotion: tuple[str, int] | None = None,
) -> SyntheticClip:
    """Lets a person say a sentence with an emotion.

    Change one argument and keep the rest for a counterfactual: the same sentence by another person, or with another
    emotion. An emotion also changes the speaking rate; ``voice_emotion`` keeps the voice, and with it sound and lips,
    while the face shows ``emotion``.

    Args:
        identity: the speaker.
        emotion: one of ``EMOTIONS``.
        level: 1 to 3; neutral has only 1.
        sentence_seed: which sentence, and which small movements of the head.
        seconds: length, at least 1; rounded to whole frames at 25 fps.
        size: side of the picture, even.
        voice_emotion: (emotion, level) of the voice where it differs from the face's.

    Raises:
        ValueError: on an unknown emotion or level, or a length or size out of range.
    """
    strength(emotion, level)
    spoken, spoken_level = voice_emotion or (emotion, level)
    style = VOICES[spoken].at(strength(spoken, spoken_level))
    speech = speak(identity.voice, style, sentence_seed, seconds)
    factors = factors_of(identity, emotion, level, speech, sentence_seed)
    face = build_face(identity, factors)
    return SyntheticClip(identity, size, speech.sound, (face.landmarks * size).astype(np.float32), factors, face)
