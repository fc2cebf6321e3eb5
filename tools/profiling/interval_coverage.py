"""Simulates how often intervals cover the mean at the same number of clips: of a Fréchet distance, and of differences.

    python -m tools.profiling.interval_coverage                  all settings, a few minutes
    python -m tools.profiling.interval_coverage sets=200

Each setting draws sets of C clips of F frames with D features. Frames of a clip share a centre, whose deviation is
``between`` times that of a frame. The generated side is the real one, moved and widened. Prints how often the intervals
cover the mean value of all sets, and the exact value for infinitely many samples.

Then two systems speak the same clips, and a clip's centre is half the same on all sides. Prints how often the intervals
of their difference, as tables compute them, cover its mean, and how often one of two equal systems would be bold.
``exact`` are the same with exact resamples, as tables did before.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.tables.shared_clips import RESAMPLES as TABLE_RESAMPLES
from benchmark.tables.shared_clips import difference_of, mean_over_runs
from configs.options import count, read_options, run_script
from metrics.functional.bootstrap import FrechetBootstrap, Z, resampled

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
class SimulatedPair:
    """Features of real clips, and of two systems that speak them.

    Attributes:
        clips: Number of clips C.
        frames: Frames per clip F.
        dimensions: Number of features D.
        better: Widening of the second system; that of the first is 1.2.
        between: Deviation of the clips' centres, relative to that of a frame.
    """

    clips: int
    frames: int
    dimensions: int
    better: float
    between: float = 0.5

    def draw(self, generator: np.random.Generator) -> list[FrechetBootstrap]:
        """Draws one set of clips; returns both systems against the real side."""

        def normal(frames: int) -> np.ndarray:
            return generator.normal(size=(self.clips, frames, self.dimensions))

        common = normal(1)
        centres = [self.between * 0.5**0.5 * (common + normal(1)) for _ in range(3)]
        real, *made = (centre + normal(self.frames) for centre in centres)
        widths = (1.2, self.better)
        return [
            FrechetBootstrap(list(real), list(0.3 + width * side)) for width, side in zip(widths, made, strict=True)
        ]


PAIRS = tuple(
    SimulatedPair(*shape, better, between)
    for shape, between in (((20, 10, 32), 0.5), ((50, 20, 16), 0.5), ((30, 10, 16), 1.0), ((100, 4, 64), 0.5))
    for better in (1.2, 1.1)
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


@dataclass(frozen=True)
class DifferenceCoverage:
    """What the intervals of differences cover.

    Attributes:
        value: Share of the intervals with the mean difference at this number of clips.
        decided: Share of the intervals without zero.
        ratio: Mean half width over Student's t, divided by the deviation of the differences.
    """

    value: float
    decided: float
    ratio: float


def difference_coverage(setting: SimulatedPair, sets: int, exact: bool = False, seed: int = 0) -> DifferenceCoverage:
    """Draws sets of two systems and counts what the intervals of their difference cover."""
    generator = np.random.default_rng(seed)
    everything = np.ones((1, setting.clips), int)
    found = []
    for index in range(sets):
        times = resampled(setting.clips, TABLE_RESAMPLES, seed + index)
        rows = [
            (float(side.distances(everything)[0]), side.distances(times) if exact else side.draws(times))
            for side in setting.draw(generator)
        ]
        one, other = (mean_over_runs([row], setting.clips, place) for place, row in enumerate(rows))
        found.append(difference_of(one, other))
    values = np.array([one.value for one in found])
    covered = np.mean([one.low <= values.mean() <= one.high for one in found])
    errors = [one.samples.std(ddof=1) for one in found]
    decided = np.mean([one.decided for one in found])
    return DifferenceCoverage(float(covered), float(decided), float(np.mean(errors) / values.std(ddof=1)))


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
    for pair in PAIRS:
        for exact in (False, True):
            both = difference_coverage(pair, sets // 3 if exact else sets, exact)
            print(
                f"{pair}{', exact' if exact else ''}: {both.value:.1%} of the difference, {both.decided:.1%} without "
                f"zero; standard error {both.ratio:.2f} of the true one",
                flush=True,
            )


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
