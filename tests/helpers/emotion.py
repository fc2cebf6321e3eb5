"""Expression latents of synthetic speakers, computed from their true landmarks without rendering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor

from encoders.motion.geometry import LandmarkMotion
from encoders.protocols import FaceTrack
from lightning_modules.emotion.emotion_table import EmotionTable
from preparation.synthetic import EMOTIONS, identity, levels_of, render_clip, split_of

MOTION = LandmarkMotion()
# emotion -> texts that are independent of the lexicons
INDEPENDENT = yaml.safe_load(Path(__file__).with_name("emotion_texts.yaml").read_text(encoding="utf-8"))


def expression_of(person: int, emotion: str, level: int, sentence: int, seconds: float = 1.0) -> Tensor:
    """Computes the (F, 13) expression latents of a clip."""
    clip = render_clip(identity(person), emotion, level, sentence, seconds, 64)
    track = FaceTrack(clip.landmarks, "ibug68", np.ones(len(clip), bool))
    return MOTION(np.empty((len(clip), 0)), track)[1]


def synthetic_table(people: int = 4) -> EmotionTable:
    """Computes the emotion table of the first training speakers, independently of ``learn_table``."""
    training = [index for index in range(12) if split_of(identity(index)) == "train"][:people]
    cells = tuple((emotion, level) for emotion in EMOTIONS for level in levels_of(emotion))
    clips = {cell: [expression_of(person, *cell, sentence=person) for person in training] for cell in cells}
    frames = torch.cat([clip for cell in cells for clip in clips[cell]])
    means = torch.stack([torch.stack([clip.mean(0) for clip in clips[cell]]).mean(0) for cell in cells])
    counts = (len(training),) * len(cells)
    return EmotionTable(cells, means, counts, frames.mean(0), frames.std(0), MOTION.identity)
