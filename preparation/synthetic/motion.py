"""True factors of every frame: lips, expression, head pose and voice.

The emotion defines a pose of brows, eyes, cheeks and mouth corners. The voice modulates it: the pose is stronger at
high vocal energy, brows rise and the head nods on stressed syllables, and the eyes blink at pauses. Left and right are
those of the speaker.

Shapes: F frames, K factors.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from encoders.protocols import FPS
from preparation.synthetic.emotions import EMOTIONS, FACES, strength
from preparation.synthetic.synthetic_speech import SyntheticSpeech
from preparation.synthetic.world import SyntheticPerson

LIP_FACTORS = ("lip_opening", "lip_width", "lip_rounding")
EXPRESSION_FACTORS = (
    "brow_inner_right",  # -1 lowered to 1 raised
    "brow_inner_left",
    "brow_outer_right",
    "brow_outer_left",
    "brow_squeeze",  # 0 to 1, drawn together
    "eye_opening_right",  # 0 closed, 1 neutral, 1.6 wide
    "eye_opening_left",
    "squint",  # 0 to 1, lower lids raised
    "gaze_x",  # -1 to 1, positive to the picture's right
    "gaze_y",  # -1 to 1, positive down
    "corner_right",  # -1 to 1, mouth corners, positive up
    "corner_left",
    "mouth_stretch",  # -1 to 1, mouth corners apart
    "cheek",  # 0 to 1, raised
    "nose_wrinkle",  # 0 to 1
    "upper_lip_raise",  # 0 to 1
)
POSE_FACTORS = (
    "shift_x",  # of the picture's side
    "shift_y",
    "scale",  # 1 neutral
    "yaw",  # radians, positive turns the face to the picture's right
    "pitch",  # positive lowers the face
    "roll",  # positive turns clockwise in the picture
)
VOICE_FACTORS = ("loudness", "f0", "emotion", "level")
FACTOR_NAMES = LIP_FACTORS + EXPRESSION_FACTORS + POSE_FACTORS + VOICE_FACTORS

_RESTING = {"eye_opening_right": 1.0, "eye_opening_left": 1.0, "scale": 1.0}
_RADIANS = 0.16  # head rotation for a value of 1 in the table of emotions, radians


def factors_of(
    identity: SyntheticPerson, emotion: str, level: int, speech: SyntheticSpeech, sentence_seed: int
) -> np.ndarray:
    """Computes the factors of every frame.

    Args:
        identity: Speaker.
        emotion: Emotion of the face, one of ``EMOTIONS``.
        level: Intensity of the emotion, 1 to 3.
        speech: Synthetic speech with its control tracks.
        sentence_seed: Seed of blinks and small movements.

    Returns:
        (F, K) float32 in the order of ``FACTOR_NAMES``; factor ``emotion`` is an index into ``EMOTIONS``.
    """
    frames = len(speech.f0)
    rng = np.random.default_rng([sentence_seed, 2])
    time = (np.arange(frames) + 0.5) / FPS
    gain = strength(emotion, level) * identity.expressivity
    values = {name: np.full(frames, _RESTING.get(name, 0.0)) for name in FACTOR_NAMES}
    for column, name in enumerate(LIP_FACTORS):
        values[name] = speech.lips[:, column].astype(np.float64)

    # The emotion is stronger while the voice is loud and weaker in pauses.
    onset = 1 - 0.35 * np.exp(-time / 0.4)
    swell = onset * (0.8 + 0.3 * np.clip(speech.energy, 0, 1.2) + 0.05 * _sway(rng, frames, 0.5))
    for name, value in FACES[emotion].items():
        unit = _RADIANS if name in ("yaw", "pitch", "roll") else 1.0
        values[name] += gain * value * unit * swell

    lively = 0.6 + 0.4 * gain
    lift = lively * gaussian_filter1d(speech.accent.astype(np.float64), 1.2)
    for name, share in (
        ("brow_inner_right", 0.3),
        ("brow_inner_left", 0.3),
        ("brow_outer_right", 0.36),
        ("brow_outer_left", 0.36),
    ):
        values[name] += share * lift
    for side in ("right", "left"):
        values[f"eye_opening_{side}"] += 0.12 * lift
        values[f"corner_{side}"] += 0.1 * lift * np.sign(FACES[emotion].get(f"corner_{side}", 0.0))
    values["gaze_x"] += 0.12 * _sway(rng, frames, 0.6)
    values["gaze_y"] += 0.08 * _sway(rng, frames, 0.6)

    blink = _blinks(rng, time, speech)
    for side in ("right", "left"):
        name = f"eye_opening_{side}"
        values[name] = np.clip(values[name], 0.3, 1.6) * (1 - blink)

    values["shift_x"] += 0.008 * _sway(rng, frames, 0.8)
    values["shift_y"] += 0.006 * _sway(rng, frames, 0.8) + 0.004 * lift
    values["scale"] += 0.012 * _sway(rng, frames, 1.2)
    values["yaw"] += 0.03 * _sway(rng, frames, 0.6)
    values["pitch"] += 0.015 * _sway(rng, frames, 0.5) + 0.05 * lift
    values["roll"] += 0.025 * _sway(rng, frames, 0.8)

    values["loudness"], values["f0"] = speech.loudness, speech.f0
    values["emotion"] += EMOTIONS.index(emotion)
    values["level"] += level
    return np.stack([values[name] for name in FACTOR_NAMES], axis=1).astype(np.float32)


def _sway(rng: np.random.Generator, frames: int, seconds: float) -> np.ndarray:
    """Returns (F,) smooth noise of about unit variance with correlation time ``seconds``, limited to [-2, 2]."""
    margin = int(4 * seconds * FPS)
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * margin), seconds * FPS / 2)[margin : margin + frames]
    # Normalised by the filter's gain, not by the sample's standard deviation, which is small in short clips.
    return np.clip(noise * np.sqrt(2 * np.sqrt(np.pi) * seconds * FPS / 2), -2, 2)


def _blinks(rng: np.random.Generator, time: np.ndarray, speech: SyntheticSpeech) -> np.ndarray:
    """Returns the (F,) closure of the eyes, 0 open to 1 closed: blinks at most pauses and every few seconds."""
    moments = [end + 0.12 for _, end in speech.phrases if rng.random() < 0.8]
    now = float(rng.uniform(0.8, 3.0))
    while now < time[-1]:
        moments.append(now)
        now += float(rng.uniform(2.5, 5.0))
    blink = np.zeros(len(time))
    for moment in moments:
        blink = np.maximum(blink, np.exp(-(((time - moment) / 0.065) ** 4)))
    return blink
