"""Example inputs of the web page: synthetic speakers, so that no real face or voice is published."""

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

SPEAKERS = (2, 9, 3)  # indices of validation and test speakers, which no run was trained on
SECONDS, SIZE = 3.0, 256


@dataclass(frozen=True)
class ExampleSpeaker:
    """An example speaker.

    Attributes:
        portrait: Image of a synthetic face, neutral.
        landmarks: Landmarks of the portrait in OpenFace's format.
        speech: Sentence in the speaker's voice.
    """

    portrait: Path
    landmarks: Path
    speech: Path


def draw_examples(folder: Path, seconds: float = SECONDS) -> list[ExampleSpeaker]:
    """Renders the example speakers, with speech of some seconds, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    examples = []
    for number, place in enumerate(SPEAKERS):
        person = identity(place)
        clip = render_clip(person, "neutral", 1, 40 + number, seconds, SIZE)
        name = person.hdtf_name.removeprefix("WDA_Synth")
        portrait, speech = folder / f"{name}.png", folder / f"{name}.wav"
        Image.fromarray(next(iter(clip.frames()))).save(portrait)
        head, first, *_ = openface_csv(clip).splitlines()
        portrait.with_suffix(".csv").write_text(f"{head}\n{first}\n", encoding="utf-8")
        _write_wav(speech, clip.sound)
        examples.append(ExampleSpeaker(portrait, portrait.with_suffix(".csv"), speech))
    return examples


def with_face(examples: list[ExampleSpeaker], pipeline: EmotiveTalkPipeline) -> list[ExampleSpeaker]:
    """Returns the examples whose face this run's landmark detector finds. Not every detector finds synthetic faces."""
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
    """Writes (S,) float32 samples at 16 kHz as 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
