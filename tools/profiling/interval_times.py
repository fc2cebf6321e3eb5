"""Compares the standard errors of a Fréchet distance by influence function and by resamples: values and times.

    python -m tools.profiling.interval_times                                       errors on five small sets
    python -m tools.profiling.interval_times clips=60 frames=167 dimensions=2048   time; minutes

    resamples=1000   resamples of the exact errors
    measured=4       resamples that are timed; the time of 100 is extrapolated

Three ways are timed on one thread, in processor time: repeating the features of a clip for each resample, as until
November 2026; the exact distance from sums over clips, or with few samples from Gram matrices; and, with many samples,
the influence function.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from configs.options import count, read_options, run_script
from metrics.functional.bootstrap import FrechetBootstrap, resampled
from metrics.functional.frechet import add_features, distance_between, gaussian, no_moments

Clips = list[np.ndarray]  # (F, D) float32 of each clip
DEFAULT = 100  # resamples of evaluate.py
SETS = {  # clips, frames, dimensions, deviation of the clips' centres, exponent of the decay of the deviations
    "independent frames": (50, 20, 64, 0.0, 0.0),
    "frames alike": (50, 20, 128, 0.5, 0.0),
    "frames alike, decaying spectrum": (50, 20, 128, 0.5, 0.7),
    "few clips": (20, 30, 128, 0.5, 0.5),
    "clips differ most": (50, 20, 128, 2.0, 0.7),
}


def draw(clips: int, frames: int, dimensions: int, between: float, decay: float) -> tuple[Clips, Clips]:
    """Draws the real and the generated side, which is moved and widened; see ``SETS``."""
    generator = np.random.default_rng(0)
    spread = np.arange(1, dimensions + 1.0) ** -decay

    def side(moved: float, width: float) -> Clips:
        centres = between * generator.normal(size=(clips, 1, dimensions))
        values = centres + generator.normal(size=(clips, frames, dimensions))
        return list((spread * (moved + width * values)).astype(np.float32))

    return side(0.0, 1.0), side(0.3, 1.2)


def by_repeating(sides: Sequence[Clips], times: np.ndarray) -> float:
    """Computes the distance of one resample (C,) from repeated features."""
    gaussians = []
    for side in sides:
        moments = no_moments(side[0].shape[1])
        for rows, repeats in zip(side, times.tolist(), strict=True):
            if repeats:
                moments = add_features(moments, torch.from_numpy(rows).double().repeat(repeats, 1))
        gaussians.append(gaussian(moments))
    return float(distance_between(gaussians[0], gaussians[1]))


def seconds(work: Callable[[], object]) -> float:
    """Measures processor time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def print_errors(resamples: int) -> None:
    """Prints both standard errors of every set."""
    print(f"{'set':34}{'value':>9}{f'{resamples} resamples':>16}{'influence':>11}{'ratio':>8}")
    for name, shape in SETS.items():
        bootstrap = FrechetBootstrap(*draw(*shape))
        times = resampled(bootstrap.clips, resamples, 0)
        exact = bootstrap.distances(times).std(ddof=1)
        value = float(bootstrap.distances(np.ones((1, bootstrap.clips), int))[0])
        error, _ = bootstrap.standard_error(2, 0)
        print(f"{name:34}{value:9.4f}{exact:16.4f}{error:11.4f}{error / exact:8.3f}", flush=True)


def print_times(clips: int, frames: int, dimensions: int, measured: int) -> None:
    """Prints the times of one size."""
    sides = draw(clips, frames, dimensions, 0.5, 0.5)
    times = resampled(clips, DEFAULT, 0)
    old = seconds(lambda: [by_repeating(sides, row) for row in times[:measured]]) * DEFAULT / measured
    print(f"repeating           {old:8.1f} s for {DEFAULT} resamples, from {measured}", flush=True)
    made: list[FrechetBootstrap] = []
    once = seconds(lambda: made.append(FrechetBootstrap(*sides)))
    if made[0].many:
        linear = once + seconds(made[0].influences)
        print(f"influence function  {linear:8.1f} s, {old / linear:.1f} x", flush=True)
    block = 32  # resamples that share the sums of a clip at 2048 dimensions
    exact = once + seconds(lambda: made[0].distances(times[:block])) * DEFAULT / block
    print(f"exact               {exact:8.1f} s for {DEFAULT} resamples, from {block}, {old / exact:.1f} x")


def main(arguments: Sequence[str]) -> None:
    """Prints the errors, or the times if a size is given."""
    names = ("clips", "frames", "dimensions", "resamples", "measured")
    options = read_options(__doc__, arguments, dict.fromkeys(names, count))
    torch.set_num_threads(1)
    size = [options[name] for name in names[:3] if name in options]
    if len(size) == 3:
        print_times(size[0], size[1], size[2], options.get("measured", 4))
    else:
        print_errors(options.get("resamples", 1000))


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
