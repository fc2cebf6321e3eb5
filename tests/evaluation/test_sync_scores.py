"""Self-check of Sync: shifted sound changes the offset by the shift."""

import numpy as np
import pytest
import torch

from evaluation.sync_scores import shifted_scores
from metrics.functional.sync import audio_windows


class IdentityAudio:
    """Network whose audio embedding is its input, so that equal lip embeddings are in perfect sync."""

    def audio(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.flatten(1)


@pytest.mark.parametrize("shift", [0, 3, 5])
def test_shifted_sound_changes_the_offset(shift):
    samples = np.random.default_rng(0).normal(scale=3000, size=60 * 640).astype(np.int16)
    lip = IdentityAudio().audio(audio_windows(samples, 55))
    scores = shifted_scores(lip, samples, IdentityAudio(), shift)
    assert scores.offset == shift
    assert scores.windows == 55 - shift
