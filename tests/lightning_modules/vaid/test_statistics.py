"""Motion statistics against numpy over all frames at once, and errors for invalid latents."""

import numpy as np
import pytest

from datamodules.schema import ShardError
from lightning_modules.vaid.statistics import motion_statistics


def clips(offset: float = 0.0) -> list[tuple[str, np.ndarray, np.ndarray]]:
    noise = np.random.default_rng(0)
    return [
        (f"clip{n}", noise.normal(offset, 2, (frames, 3)).astype(np.float32), noise.random((frames, 4), np.float32))
        for n, frames in enumerate((5, 40, 1))
    ]


@pytest.mark.parametrize("offset", [0.0, 5000.0])
def test_statistics_equal_those_of_the_concatenated_frames(offset):
    some = clips(offset)
    found = motion_statistics(some)
    lip, expression = (np.concatenate([clip[i] for clip in some]).astype(np.float64) for i in (1, 2))
    for name, frames in (("lip", lip), ("expression", expression)):
        np.testing.assert_allclose(getattr(found, f"{name}_mean"), frames.mean(0))
        np.testing.assert_allclose(getattr(found, f"{name}_std"), frames.std(0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_latent_that_is_not_finite_is_named(value):
    some = clips()
    some[1][2][7, 2] = value
    with pytest.raises(ShardError, match=r"clip1\.expression\.npy: frame 7"):
        motion_statistics(some)


def test_no_clips_raise_an_error():
    with pytest.raises(ShardError, match="no training clips"):
        motion_statistics([])
