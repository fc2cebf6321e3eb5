"""Reads speech: 16 kHz mono for the audio encoder, and the original rate for the video's sound track.

Shapes: S samples, F frames at 25 fps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.schema import SAMPLES_PER_FRAME
from encoders.protocols import SAMPLE_RATE
from generation.errors import GenerationError
from media import probe, read_sound
from media.writer import AAC_RATES
from preparation.prepare_clip import loudest_second

MAX_SOUND_RATE = 48_000  # samples per second; higher rates add nothing audible
SILENT = -60.0  # dBFS of the loudest second


@dataclass(frozen=True)
class PreparedSpeech:
    """Speech of a video.

    Attributes:
        samples: (S,) float32 mono at 16 kHz in [-1, 1].
        sound: The same sound at ``rate``, for the video.
        rate: Samples per second: the file's own rate if AAC supports it.
        notes: Notes for the user.
    """

    samples: np.ndarray
    sound: np.ndarray
    rate: int
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """F = ceil(25 S / 16000): the last frame covers the end of the speech."""
        return -(-len(self.samples) // SAMPLES_PER_FRAME)


def read_speech(path: Path) -> PreparedSpeech:
    """Reads the sound of a media file. The format is detected from the content, not the file name.

    Raises:
        MediaError: If the file is missing, empty, damaged or has no sound.
        GenerationError: If the sound has no samples.
    """
    info = probe(path)
    samples = read_sound(path, rate=SAMPLE_RATE)
    if not len(samples):
        raise GenerationError(f"speech={path}: has no samples; choose a file with sound")
    rate = SAMPLE_RATE if info.sound_rate < SAMPLE_RATE else MAX_SOUND_RATE
    if info.sound_rate in AAC_RATES and SAMPLE_RATE <= info.sound_rate <= MAX_SOUND_RATE:
        rate = info.sound_rate
    notes: tuple[str, ...] = ()
    if (level := loudest_second(samples)) < SILENT:
        notes = (f"speech={path}: is silent (its loudest second is at {level:.0f} dBFS); the mouth will hardly move",)
    return PreparedSpeech(samples, samples if rate == SAMPLE_RATE else read_sound(path, rate=rate), rate, notes)
