"""Small inputs for generation: a synthetic portrait with landmarks, speech, and a driving video."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from preparation.synthetic import identity, render_clip
from preparation.synthetic.write import openface_csv
from tests.helpers.sound import write_wav
from tests.helpers.videos import write_video

SIZE = 128


def write_inputs(folder: Path) -> Path:
    """Writes face.png with face.csv, voice.wav of 0.5 s, and smile.mp4 of 0.4 s with smile.csv."""
    write_portrait(folder / "face.png")
    clip = render_clip(identity(4), "happy", 3, 7, 1.0, SIZE)
    write_video(folder / "smile.mp4", islice(clip.frames(), 10))
    (folder / "smile.csv").write_text("\n".join(openface_csv(clip).splitlines()[:11]) + "\n")
    write_wav(folder / "voice.wav", tone(0.5), 16_000)
    return folder


def write_portrait(path: Path, size: int = SIZE) -> np.ndarray:
    """Writes a neutral synthetic face and its landmark file."""
    clip = render_clip(identity(10), "neutral", 1, 3, 1.0, size)
    picture = next(iter(clip.frames()))
    Image.fromarray(picture).save(path)
    path.with_suffix(".csv").write_text("\n".join(openface_csv(clip).splitlines()[:2]) + "\n")
    return picture


def tone(seconds: float, rate: int = 16_000) -> np.ndarray:
    """Returns (S,) float32 sound: a 200 Hz tone with the rhythm of syllables."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 200 * time) * np.sin(2 * np.pi * 2 * time) ** 2).astype(np.float32)
