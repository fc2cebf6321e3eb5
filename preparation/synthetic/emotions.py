"""Effect of the eight emotions on face and voice, at full strength.

Names are MEAD's folder names. Face factors are displacements from a neutral face (``motion.py`` lists their ranges).
Their values follow the action units of each emotion (Ekman & Friesen's FACS), exaggerated as in a cartoon.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
LEVEL_GAIN = {1: 0.55, 2: 0.78, 3: 1.0}  # level 1 is above 0.5, so it is nearer to full strength than to neutral


@dataclass(frozen=True)
class VoiceStyle:
    """Effect of an emotion on the voice.

    Attributes:
        pitch: Shift of f0, semitones.
        pitch_range: Factor on the f0 movement of accents and phrases.
        energy: Gain, dB.
        rate: Factor on the speaking rate.
        brightness: Change of the spectral slope, in powers of frequency; positive is pressed, negative is soft.
        breath: Added breath noise, 0 to 1.
        tremor: Depth of a 6.5 Hz tremor of f0, semitones.
        final_rise: Rise of f0 at the end of a phrase, semitones.
    """

    pitch: float = 0.0
    pitch_range: float = 1.0
    energy: float = 0.0
    rate: float = 1.0
    brightness: float = 0.0
    breath: float = 0.0
    tremor: float = 0.0
    final_rise: float = 0.0

    def at(self, gain: float) -> VoiceStyle:
        """Returns the style at strength ``gain`` between 0 (neutral) and 1."""
        rests = {trait.name: float(trait.default) for trait in fields(self)}  # type: ignore[arg-type]
        return VoiceStyle(**{name: rest + (getattr(self, name) - rest) * gain for name, rest in rests.items()})


VOICES: dict[str, VoiceStyle] = {
    "angry": VoiceStyle(pitch=3.0, pitch_range=1.5, energy=6.0, rate=1.12, brightness=0.45),
    "contempt": VoiceStyle(pitch=-1.5, pitch_range=0.6, energy=-1.0, rate=0.88, brightness=0.2),
    "disgusted": VoiceStyle(pitch=-3.5, pitch_range=1.2, energy=1.5, rate=0.84, brightness=-0.15, breath=0.08),
    "fear": VoiceStyle(pitch=5.0, pitch_range=0.9, energy=-2.0, rate=1.22, breath=0.2, tremor=0.7),
    "happy": VoiceStyle(pitch=4.0, pitch_range=1.8, energy=3.0, rate=1.08, brightness=0.2),
    "neutral": VoiceStyle(),
    "sad": VoiceStyle(pitch=-2.0, pitch_range=0.45, energy=-6.0, rate=0.82, brightness=-0.4, breath=0.15),
    "surprised": VoiceStyle(pitch=5.5, pitch_range=2.0, energy=3.0, rate=0.98, final_rise=6.0),
}

FACES: dict[str, dict[str, float]] = {
    "angry": {
        "brow_inner_right": -1.0, "brow_inner_left": -1.0, "brow_outer_right": 0.45, "brow_outer_left": 0.45,
        "brow_squeeze": 1.0, "eye_opening_right": -0.15, "eye_opening_left": -0.15, "squint": 0.45,
        "corner_right": -0.75, "corner_left": -0.75, "mouth_stretch": 0.15, "nose_wrinkle": 0.35, "pitch": 0.35,
    },
    "contempt": {
        "brow_inner_right": -0.35, "brow_outer_right": -0.25, "brow_inner_left": 0.3, "brow_outer_left": 0.9,
        "eye_opening_right": -0.42, "eye_opening_left": -0.28, "corner_left": 1.0, "corner_right": -0.2,
        "mouth_stretch": 0.1, "cheek": 0.1, "gaze_x": -0.6, "roll": 0.55, "pitch": -0.35,
    },
    "disgusted": {
        "brow_inner_right": -0.6, "brow_inner_left": -0.6, "brow_outer_right": -0.55, "brow_outer_left": -0.55,
        "brow_squeeze": 0.7, "eye_opening_right": -0.4, "eye_opening_left": -0.4, "squint": 1.0,
        "corner_right": -0.7, "corner_left": -0.7, "mouth_stretch": -0.1, "nose_wrinkle": 1.0,
        "upper_lip_raise": 1.0, "cheek": 0.2, "gaze_y": 0.2, "yaw": 0.45, "pitch": -0.2,
    },
    "fear": {
        "brow_inner_right": 1.0, "brow_inner_left": 1.0, "brow_outer_right": 0.1, "brow_outer_left": 0.1,
        "brow_squeeze": 0.8, "eye_opening_right": 0.5, "eye_opening_left": 0.5, "squint": 0.0,
        "corner_right": -0.45, "corner_left": -0.45, "mouth_stretch": 1.0, "yaw": -0.3, "pitch": -0.25,
    },
    "happy": {
        "brow_inner_right": 0.3, "brow_inner_left": 0.3, "brow_outer_right": 0.35, "brow_outer_left": 0.35,
        "eye_opening_right": -0.1, "eye_opening_left": -0.1, "squint": 0.75, "corner_right": 1.0, "corner_left": 1.0,
        "mouth_stretch": 0.55, "cheek": 1.0,
    },
    "neutral": {},
    "sad": {
        "brow_inner_right": 0.85, "brow_inner_left": 0.85, "brow_outer_right": -0.75, "brow_outer_left": -0.75,
        "brow_squeeze": 0.35, "eye_opening_right": -0.35, "eye_opening_left": -0.35, "corner_right": -1.0,
        "corner_left": -1.0, "mouth_stretch": -0.15, "gaze_y": 0.5, "pitch": 0.45, "roll": -0.2,
    },
    "surprised": {
        "brow_inner_right": 0.95, "brow_inner_left": 0.95, "brow_outer_right": 1.0, "brow_outer_left": 1.0,
        "eye_opening_right": 0.6, "eye_opening_left": 0.6, "corner_right": 0.1, "corner_left": 0.1,
        "mouth_stretch": -0.9, "pitch": -0.3,
    },
}  # fmt: skip


def levels_of(emotion: str) -> tuple[int, ...]:
    """Returns the levels of an emotion; neutral has only level 1."""
    return (1,) if emotion == "neutral" else (1, 2, 3)


def strength(emotion: str, level: int) -> float:
    """Returns the strength of an emotion at a level, 0 to 1.

    Raises:
        ValueError: If the emotion or level does not exist.
    """
    if emotion not in EMOTIONS:
        raise ValueError(f"unknown emotion {emotion!r}: choose one of {', '.join(EMOTIONS)}")
    if level not in levels_of(emotion):
        raise ValueError(f"emotion {emotion!r} has no level {level}: choose one of {levels_of(emotion)}")
    return LEVEL_GAIN[level]
