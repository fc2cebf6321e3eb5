"""The speech: heard at 16 kHz by the audio encoder, and kept as it was for the video's sound track.

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

BEST_RATE = 48_000  # samples per second beyond which nothing is heard
SILENT = -60.0  # dBFS of the loudest second


@dataclass(frozen=True)
class PreparedSpeech:
    """Sound to speak.

    Attributes:
        samples: (S,) float32 mono at 16 kHz in [-1, 1].
        sound: the same at ``rate``, for the video.
        rate: samples per second, the file's own where AAC can hold it.
        notes: what a person should know.
    """

    samples: np.ndarray
    sound: np.ndarray
    rate: int
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """F = ceil(S 25 / 16000): the last frame is spoken to the end."""
        return -(-len(self.samples) // SAMPLES_PER_FRAME)


def read_speech(path: Path) -> PreparedSpeech:
    """Reads the sound of any file; its content decides, not its name.

    Raises:
        MediaError: when it is missing, empty, damaged or without sound.
        GenerationError: when it holds no sample.
    """
    info = probe(path)
    samples = read_sound(path, rate=SAMPLE_RATE)
    if not len(samples):
        raise GenerationError(f"speech={path}: lasts 0 s; expected sound")
    rate = SAMPLE_RATE if info.sound_rate < SAMPLE_RATE else BEST_RATE
    if info.sound_rate in AAC_RATES and SAMPLE_RATE <= info.sound_rate <= BEST_RATE:
        rate = info.sound_rate
    notes: tuple[str, ...] = ()
    if (level := loudest_second(samples)) < SILENT:
        notes = (f"speech={path}: is silent (its loudest second is at {level:.0f} dBFS); nothing moves the mouth",)
    return PreparedSpeech(samples, samples if rate == SAMPLE_RATE else read_sound(path, rate=rate), rate, notes)
