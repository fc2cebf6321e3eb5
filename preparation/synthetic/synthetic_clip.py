"""One clip of a synthetic speaker: sound, frames, landmarks and true factors.

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
    """Clip of a synthetic speaker with its true factors.

    Attributes:
        identity: Speaker.
        size: Side S of the picture, pixels.
        sound: (640 F,) float32 mono at 16 kHz in [-1, 1].
        landmarks: (F, 68, 2) float32 in pixels, pixel centres at half-integers, in the order of iBUG's 300-W.
        factors: (F, K) float32 true factors.
        face: Shapes that the frames are drawn from.
        factor_names: Names of the K columns of ``factors``.
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
        """Draws the frames one by one, (S, S, 3) uint8 RGB. Each call starts from the first frame."""
        return render(self.identity, self.face, self.size)

    def factor(self, name: str) -> np.ndarray:
        """Returns the (F,) values of one factor."""
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
    """Renders a speaker who says a random sentence with an emotion.

    Changing a single argument gives a counterfactual: the same sentence by another speaker, or with another emotion.
    An emotion also changes the speaking rate; with ``voice_emotion`` the sound and the lips stay the same while the
    face shows ``emotion``.

    Args:
        identity: Speaker.
        emotion: Emotion of the face, one of ``EMOTIONS``.
        level: Intensity of the emotion, 1 to 3; neutral has only 1.
        sentence_seed: Seed of the sentence and of small head movements.
        seconds: Length in seconds, at least 1; rounded to whole frames at 25 fps.
        size: Side of the picture in pixels, even.
        voice_emotion: (emotion, level) of the voice; None for that of the face.

    Raises:
        ValueError: If the emotion or level is unknown, or the length or size is out of range.
    """
    strength(emotion, level)
    spoken, spoken_level = voice_emotion or (emotion, level)
    style = VOICES[spoken].at(strength(spoken, spoken_level))
    speech = speak(identity.voice, style, sentence_seed, seconds)
    factors = factors_of(identity, emotion, level, speech, sentence_seed)
    face = build_face(identity, factors)
    return SyntheticClip(identity, size, speech.sound, (face.landmarks * size).astype(np.float32), factors, face)
