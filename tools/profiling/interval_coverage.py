"""Simulates how often the interval of a Fréchet distance covers the mean value at the same number of clips.

    python -m tools.profiling.interval_coverage                  all settings, a few minutes
    python -m tools.profiling.interval_coverage sets=200

Each setting draws sets of C clips of F frames with D features. Frames of a clip share a centre, whose deviation is
``between`` times that of a frame. The generated side is the real one, moved and widened. Prints how often the intervals
cover the mean value of all sets, and the exact value for infinitely many samples.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from configs.options import count, read_options, run_script
from metrics.functional.bootstrap import FrechetBootstrap, Z

RESAMPLES = 100


@dataclass(frozen=True)
class SimulatedSet:
    """Distribution of simulated features.

    Attributes:
        clips: Number of clips C.
        frames: Frames per clip F.
        dimensions: Number of features D.
        between: Deviation of the clips' centres, relative to that of a frame.
        shift: Difference of the means in each dimension.
        widening: Deviation of the generated side, relative to the real one.
    """

    clips: int
    frames: int
    dimensions: int
    between: float = 0.5
    shift: float = 0.3
    widening: float = 1.2

    def draw(self, generator: np.random.Generator) -> FrechetBootstrap:
        """Draws one set."""
        return FrechetBootstrap(self._side(generator, 0.0, 1.0), self._side(generator, self.shift, self.widening))

    def _side(self, generator: np.random.Generator, moved: float, width: float) -> list[np.ndarray]:
        centres = self.between * generator.normal(size=(self.clips, 1, self.dimensions))
        frames = generator.normal(size=(self.clips, self.frames, self.dimensions))
        return list(moved + width * (centres + frames))

    @property
    def limit(self) -> float:
        """Distance of the distributions."""
        variance = 1 + self.between**2
        return self.dimensions * (self.shift**2 + variance * (self.widening - 1) ** 2)


SETTINGS = (
    SimulatedSet(50, 1, 400),
    SimulatedSet(100, 1, 100),
    SimulatedSet(20, 10, 32),
    SimulatedSet(50, 20, 16),
    SimulatedSet(100, 4, 64),
    SimulatedSet(30, 10, 16, between=1.0),
)


@dataclass(frozen=True)
class IntervalCoverage:
    """What the intervals of simulated sets cover.

    Attributes:
        value: Share of the intervals with the mean value at this number of clips.
        limit: Share of the intervals with the distance of the distributions.
        ratio: Mean standard error, divided by the deviation of the values.
        method: Method of the standard error.
    """

    value: float
    limit: float
    ratio: float
    method: str


def coverage(setting: SimulatedSet, sets: int, seed: int = 0) -> IntervalCoverage:
    """Draws sets and counts what their intervals cover."""
    generator = np.random.default_rng(seed)
    everything = np.ones((1, setting.clips), int)
    values, errors = np.zeros((2, sets))
    method = ""
    for index in range(sets):
        bootstrap = setting.draw(generator)
        values[index] = bootstrap.distances(everything)[0]
        errors[index], method = bootstrap.standard_error(RESAMPLES, seed + index)
    here, limit = (float((abs(values - aim) <= Z * errors).mean()) for aim in (values.mean(), setting.limit))
    return IntervalCoverage(here, limit, float(errors.mean() / values.std(ddof=1)), method)


def main(arguments: Sequence[str]) -> None:
    """Prints the coverage of every setting."""
    sets = read_options(__doc__, arguments, {"sets": count}).get("sets", 100)
    print(f"{sets} sets, {RESAMPLES} resamples; nominal 95 %")
    for setting in SETTINGS:
        found = coverage(setting, sets)
        print(
            f"{setting}: {found.value:.1%} of the value at this n, {found.limit:.1%} of the limit; standard error "
            f"{found.ratio:.2f} of the true one, by {found.method}",
            flush=True,
        )


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
