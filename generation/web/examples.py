"""Example inputs: synthetic speakers this project draws itself, so that nobody's face or voice is given away."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from encoders.protocols import SAMPLE_RATE
from generation.errors import GenerationError
from generation.pipeline import EmotiveTalkPipeline
from generation.portrait import read_portrait
from preparation.synthetic import identity, render_clip
from preparation.synthetic.write import openface_csv

SPEAKERS = (2, 9, 3)  # places in the cast: its test and validation speakers, whom no run was trained on
SECONDS, SIZE = 3.0, 256


@dataclass(frozen=True)
class ExampleSpeaker:
    """A speaker to try out.

    Attributes:
        portrait: a drawn face, neutral.
        landmarks: of it, as OpenFace writes them.
        speech: a sentence in that person's voice.
    """

    portrait: Path
    landmarks: Path
    speech: Path


def draw_examples(folder: Path) -> list[ExampleSpeaker]:
    """Writes the examples."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    for number, place in enumerate(SPEAKERS):
        person = identity(place)
        clip = render_clip(person, "neutral", 1, 40 + number, SECONDS, SIZE)
        name = person.hdtf_name.removeprefix("WDA_Synth")
        portrait, speech = folder / f"{name}.png", folder / f"{name}.wav"
        Image.fromarray(next(iter(clip.frames()))).save(portrait)
        head, first, *_ = openface_csv(clip).splitlines()
        portrait.with_suffix(".csv").write_text(f"{head}\n{first}\n", encoding="utf-8")
        _write_wav(speech, clip.sound)
        examples.append(ExampleSpeaker(portrait, portrait.with_suffix(".csv"), speech))
    return examples


def with_face(examples: list[ExampleSpeaker], pipeline: EmotiveTalkPipeline) -> list[ExampleSpeaker]:
    """Those whose drawn face this run's landmark detector finds: not every detector of real faces does."""
    encoders, side = pipeline.encoders, pipeline.exported.info.frame_side
    found = []
    for example in examples:
        try:
            read_portrait(example.portrait, encoders.landmarks, encoders.motion, side, pipeline.face)
        except GenerationError:
            continue
        found.append(example)
    return found


def _write_wav(path: Path, sound: np.ndarray) -> None:
    """(S,) float32 at 16 kHz as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
