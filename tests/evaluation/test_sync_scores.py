"""The self-check: sound that is moved must be found moved."""

import numpy as np
import pytest
import torch

from evaluation.sync_scores import shifted_scores
from metrics.functional.sync import audio_windows


class Hearing:
    """Embeds sound as itself: lips that embed alike are in perfect sync with it."""

    def audio(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.flatten(1)


@pytest.mark.parametrize("shift", [0, 3, 5])
def test_moved_sound_is_found(shift):
    samples = np.random.default_rng(0).normal(scale=3000, size=60 * 640).astype(np.int16)
    lip = Hearing().audio(audio_windows(samples, 55))
    scores = shifted_scores(lip, samples, Hearing(), shift)
    assert scores.offset == shift
    assert scores.windows == 55 - shift
