"""Design of the user study: Williams' Latin squares for the order of systems, attention checks at random places.

Every rater sees every sample of every system once, in as many rounds as there are samples. A round shows each system
once, each with another sample. The order of systems in a round is a row of a Williams design, in which every system
follows every other equally often (Williams, Australian Journal of Scientific Research A 2, 1949). Rounds and raters
take the rows in turn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

QUESTIONS: dict[str, tuple[str, str]] = {
    "lip_sync": ("Lip-Sync", "How well do the lips match the speech?"),
    "exp_q": ("Exp-Q", "How good are the facial expressions?"),
    "realness": ("Realness", "How real does the person look?"),
    "v_q": ("V-Q", "How good is the picture of the video?"),
}
LEVELS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Trial:
    """One video to rate.

    Attributes:
        name: Anonymous name on the page.
        system: System; None for an attention check.
        sample: Test clip; None for an attention check.
        demanded: Answer that an attention check asks for.
    """

    name: str
    system: str | None
    sample: str | None
    demanded: int | None = None


def williams(count: int) -> list[list[int]]:
    """Orders of 0..count-1 in which each follows each other equally often: count rows, or 2 * count if count is odd."""
    first = [0]
    low, high = 1, count - 1
    while len(first) < count:
        first.append(low if len(first) % 2 else high)
        low, high = (low + 1, high) if len(first) % 2 == 0 else (low, high - 1)
    rows = [[(item + shift) % count for item in first] for shift in range(count)]
    return rows if count % 2 == 0 else rows + [row[::-1] for row in rows]


def make_trials(systems: Sequence[str], samples: Sequence[str], checks: int, seed: int) -> list[Trial]:
    """Returns all trials of a study. Names are hashes that reveal no system without the key."""

    def name(*parts: object) -> str:
        return hashlib.sha256("\0".join(map(str, (seed, *parts))).encode()).hexdigest()[:12]

    rated = [Trial(name("rated", system, sample), system, sample) for system in systems for sample in samples]
    draw = random.Random(f"{seed} checks")
    asked = [Trial(name("check", index), None, None, draw.choice((1, 2, 4, 5))) for index in range(checks)]
    return rated + asked


def orders(trials: Sequence[Trial], raters: int, seed: int) -> list[list[str]]:
    """Returns the trial names in each rater's order."""
    systems = list(dict.fromkeys(trial.system for trial in trials if trial.system))
    samples = list(dict.fromkeys(trial.sample for trial in trials if trial.sample))
    checks = [trial.name for trial in trials if trial.demanded is not None]
    names = {(trial.system, trial.sample): trial.name for trial in trials}
    random.Random(f"{seed} systems").shuffle(systems)
    square = williams(len(systems))
    found = []
    for rater in range(raters):
        draw = random.Random(f"{seed} rater {rater}")
        mine = draw.sample(samples, len(samples))
        order = []
        for place in range(len(samples)):
            row = square[(rater * len(samples) + place) % len(square)]
            order += [names[systems[system], mine[(place + system) % len(samples)]] for system in row]
        places = sorted(draw.sample(range(1, len(order) + 1), len(checks)), reverse=True)
        for at, check in zip(places, draw.sample(checks, len(checks)), strict=True):
            order.insert(at, check)
        found.append(order)
    return found
