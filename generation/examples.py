"""Something to try at once: a small trained model, and synthetic speakers that it was never trained on.

``generate.py`` and ``app.py`` use both if no run is named. No real face or voice is published. The speakers are drawn
when they are needed, and are the same on every machine.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from configs.generation import DrivingEmotionConfig, GenerateConfig
from encoders.protocols import SAMPLE_RATE
from generation.errors import GenerationError
from generation.pipeline import EmotiveTalkPipeline
from generation.portrait import read_portrait
from generation.small import SMALL
from preparation.synthetic import identity, render_clip
from preparation.synthetic.write import openface_csv
from runtime.files import write_whole
from runtime.folders import cache_folder

# Indices of validation and test speakers, which no run was trained on -> emotion that suits the example.
SPEAKERS = {2: "happy", 9: "angry", 3: "surprised"}
SECONDS, SIZE, LEVEL = 3.0, 256, 3
VIDEO = "talking.mp4"
SOURCES = ("label", "text", "image", "video")


@dataclass(frozen=True)
class ExampleSpeaker:
    """An example speaker.

    Attributes:
        portrait: Image of a synthetic face, neutral.
        landmarks: Landmarks of the portrait in OpenFace's format.
        speech: Sentence in the speaker's voice.
        emotion: Emotion to ask for.
    """

    portrait: Path
    landmarks: Path
    speech: Path
    emotion: str

    @property
    def name(self) -> str:
        """First name."""
        return self.portrait.stem


def draw_examples(folder: Path, seconds: float = SECONDS) -> list[ExampleSpeaker]:
    """Renders the example speakers, with speech of some seconds, into a folder."""
    return [draw_example(folder, index, seconds) for index in SPEAKERS]


def draw_example(folder: Path, index: int, seconds: float = SECONDS) -> ExampleSpeaker:
    """Renders one of ``SPEAKERS`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    person = identity(index)
    clip = render_clip(person, "neutral", 1, 40 + list(SPEAKERS).index(index), seconds, SIZE)
    portrait = folder / f"{person.hdtf_name.removeprefix('WDA_Synth')}.png"
    picture = io.BytesIO()
    Image.fromarray(next(iter(clip.frames()))).save(picture, "PNG")
    head, first, *_ = openface_csv(clip).splitlines()
    landmarks, speech = portrait.with_suffix(".csv"), portrait.with_suffix(".wav")
    write_whole(portrait, picture.getvalue())
    write_whole(landmarks, f"{head}\n{first}\n")
    write_whole(speech, _wav(clip.sound))
    return ExampleSpeaker(portrait, landmarks, speech, SPEAKERS[index])


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


def with_example(config: GenerateConfig) -> tuple[GenerateConfig, ExampleSpeaker]:
    """Fills in what a command line without ``ethd`` leaves out: the small model, a speaker, an emotion and the output.

    The speaker's files are drawn into the user's cache, so that the record of the video names files that stay.

    Raises:
        OSError: If the files cannot be written.
    """
    speaker = draw_example(cache_folder("examples"), next(iter(SPEAKERS)))
    emotion = config.emotion
    if config.drive != "lips" and not any(getattr(emotion, source) for source in SOURCES):
        emotion = DrivingEmotionConfig(**{**vars(emotion), "label": speaker.emotion, "level": emotion.level or LEVEL})
    return replace(
        config,
        ethd=str(SMALL),
        portrait=str(speaker.portrait),
        speech=config.speech or str(speaker.speech),
        output=config.output or VIDEO,
        emotion=emotion,
    ), speaker


def _wav(sound: np.ndarray) -> bytes:
    """(S,) float32 samples at 16 kHz as a WAV file of 16-bit PCM."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return content.getvalue()
