"""Measures by simulation how often the user study's 95 % intervals cover what they are about.

    python -m tools.quality.user_study [trials=2000] [seed=0]

Each trial draws new raters and new clips. A rating is the system's mean plus effects of the rater, the clip, and both,
as a number, or rounded to 1 to 5 as people rate. The interval of a mean should cover the system's mean over all raters
and clips; the interval of a difference should cover the difference of two such means. The paper has 26 raters and 10
clips. Printed for comparison: the coverage of an interval over raters alone, which takes the clips as given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmark.user_study.agreement import two_way_interval
from configs.options import count, read_options, run_script, whole

TRIALS = 2000
BATCH = 20_000  # ratings that give the true mean of rounded ratings


@dataclass(frozen=True)
class StudySetting:
    """Setting of a simulated study; standard deviations in rating points.

    Attributes:
        raters: Number of raters.
        clips: Number of clips of each system.
        rater: Deviation between raters.
        clip: Deviation between clips, the same for both systems.
        own_clip: Deviation between clips that differs between the systems.
        noise: Deviation of single ratings.
        means: Means of the two systems.
        rounded: Whether ratings are 1 to 5.
    """

    raters: int = 26
    clips: int = 10
    rater: float = 0.4
    clip: float = 0.4
    own_clip: float = 0.2
    noise: float = 0.8
    means: tuple[float, float] = (3.4, 3.0)
    rounded: bool = False


SETTINGS = {
    "review": StudySetting(),
    "rounded": StudySetting(rounded=True),
    "near the end of the scale": StudySetting(means=(4.5, 4.2), rounded=True),
    "clips differ": StudySetting(clip=0.8, own_clip=0.4),
    "raters differ": StudySetting(rater=0.8),
    "only noise": StudySetting(rater=0.0, clip=0.0, own_clip=0.0),
    "few raters": StudySetting(raters=6),
    "few clips": StudySetting(clips=4),
}


@dataclass(frozen=True)
class StudyCoverage:
    """Shares of the trials whose interval covers the truth.

    Attributes:
        mean: Of a system's mean, by the two-way model.
        difference: Of the difference of two systems, by the two-way model.
        raters_alone: Of a system's mean, by Student's t over raters.
    """

    mean: float
    difference: float
    raters_alone: float


def coverage(setting: StudySetting, trials: int, seed: int) -> StudyCoverage:
    """Simulates studies and counts the intervals that cover the truth."""
    draw = np.random.default_rng(seed)
    truth = _truth(setting)
    covered = np.zeros(3)
    for _ in range(trials):
        one, other = _ratings(setting, draw)
        values = one.mean(axis=1)
        alone = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        pairs = (
            (two_way_interval(one), truth[0]),
            (two_way_interval(one - other), truth[0] - truth[1]),
            (alone, truth[0]),
        )
        covered += [interval is not None and interval[0] <= value <= interval[1] for interval, value in pairs]
    return StudyCoverage(*(covered / trials).tolist())


def _ratings(setting: StudySetting, draw: np.random.Generator) -> list[np.ndarray]:
    """Draws the (R, C) ratings of both systems by the same raters of the same samples."""
    raters = draw.normal(0, setting.rater, (setting.raters, 1))
    samples = draw.normal(0, setting.clip, setting.clips)
    found = []
    for mean in setting.means:
        clips = samples + draw.normal(0, setting.own_clip, setting.clips)
        found.append(
            _rated(setting, mean + raters + clips + draw.normal(0, setting.noise, (setting.raters, setting.clips)))
        )
    return found


def _rated(setting: StudySetting, values: np.ndarray) -> np.ndarray:
    return values.round().clip(1, 5) if setting.rounded else values


def _truth(setting: StudySetting) -> list[float]:
    """Mean of each system over all raters and clips."""
    spread = np.sqrt(setting.rater**2 + setting.clip**2 + setting.own_clip**2 + setting.noise**2)
    noise = stats.norm.ppf((np.arange(BATCH) + 0.5) / BATCH) * spread  # quantiles: no error of a draw
    return [float(_rated(setting, mean + noise).mean()) for mean in setting.means]


def main(arguments: Sequence[str]) -> None:
    """Prints the coverage in every setting."""
    options = read_options(__doc__, arguments, {"trials": count, "seed": whole})
    trials, seed = options.get("trials", TRIALS), options.get("seed", 0)
    print(f"{trials} trials, seed {seed}; shares covered, nominal 0.95")
    print(f"{'setting':28}{'raters':>7}{'clips':>6}{'mean':>8}{'difference':>12}{'raters alone':>14}")
    for name, setting in SETTINGS.items():
        found = coverage(setting, trials, seed)
        shares = f"{found.mean:8.3f}{found.difference:12.3f}{found.raters_alone:14.3f}"
        print(f"{name:28}{setting.raters:7}{setting.clips:6}{shares}")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
