"""Writes sound files independently of the project's writer."""

from __future__ import annotations

import wave
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np


def write_wav(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes (S,) or (S, channels) float32 in [-1, 1] as 16-bit PCM."""
    samples = samples[:, None] if samples.ndim == 1 else samples
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def write_sound(path: Path | BinaryIO, samples: np.ndarray, rate: int, codec: str, muxer: str | None = None) -> Path:
    """Writes (C, S) float32 sound in any codec and container, independent of the file name."""
    with av.open(path, "w", format=muxer) as file:
        stream = file.add_stream(codec, rate=rate, layout="mono" if len(samples) == 1 else "stereo")
        file.mux(stream.encode(sound_frame(samples, rate)))
        file.mux(stream.encode())
    return path


def sound_frame(samples: np.ndarray, rate: int, start: int = 0) -> av.AudioFrame:
    """Converts (C, S) float32 to a PyAV frame whose first sample has the time ``start``."""
    layout = "mono" if len(samples) == 1 else "stereo"
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
    return frame
