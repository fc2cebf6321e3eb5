"""Simulates how often the interval of a Fréchet distance covers the mean value at the same number of clips.

    python -m tools.profiling.interval_coverage                  all settings, about two minutes
    python -m tools.profiling.interval_coverage sets=200

Each setting draws sets of C clips of F frames with D features. Frames of a clip share a centre, whose deviation is
``between`` times that of a frame. The generated side is the real one, moved and widened. The mean value at this number
of clips is that of 4 times as many sets. The value for infinitely many samples is exact. Prints the coverage of both.
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


def coverage(setting: SimulatedSet, sets: int, seed: int = 0) -> tuple[float, float]:
    """Returns the share of intervals with the mean value at this number of clips, and with the limit."""
    generator = np.random.default_rng(seed)
    everything = np.ones((1, setting.clips), int)
    mean = np.mean([setting.draw(generator).distances(everything)[0] for _ in range(4 * sets)])
    found = np.zeros((sets, 2), bool)
    for index in range(sets):
        bootstrap = setting.draw(generator)
        value = float(bootstrap.distances(everything)[0])
        half = Z * bootstrap.standard_error(RESAMPLES, seed + index)[0]
        found[index] = [abs(value - aim) <= half for aim in (mean, setting.limit)]
    one, two = found.mean(axis=0)
    return float(one), float(two)


def main(arguments: Sequence[str]) -> None:
    """Prints the coverage of every setting."""
    sets = read_options(__doc__, arguments, {"sets": count}).get("sets", 100)
    print(f"{sets} sets, {RESAMPLES} resamples; nominal 95 %")
    for setting in SETTINGS:
        here, limit = coverage(setting, sets)
        print(f"{setting}: {here:.1%} of the value at this n, {limit:.1%} of the limit", flush=True)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
