"""Speech sounds of a small artificial language, and random sentences in it.

Vowel formants are those of an average man (Peterson & Barney, 1952).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAD_IN, LEAD_OUT = 0.2, 0.2


@dataclass(frozen=True)
class Phone:
    """Acoustics and lip shape of a speech sound.

    Attributes:
        formants: F1 to F3 of an average man, Hz.
        voiced: Amplitude of the voice relative to a stressed [a].
        lips: Opening 0 to 1, width -1 (narrow) to 1 (spread), rounding 0 to 1.
        seconds: Usual duration, seconds.
        noise: Amplitude, centre (Hz) and width (Hz) of the friction or burst noise.
        closed: Whether the lips are closed.
        burst: Duration of the noise at the release of a stop, seconds; 0 for noise over the whole phone.
    """

    formants: tuple[float, float, float]
    voiced: float
    lips: tuple[float, float, float]
    seconds: float
    noise: tuple[float, float, float] = (0.0, 3000.0, 1000.0)
    closed: bool = False
    burst: float = 0.0


VOWELS: dict[str, Phone] = {
    "a": Phone((750, 1150, 2440), 1.00, (1.00, 0.10, 0.0), 0.15),
    "e": Phone((530, 1840, 2480), 0.78, (0.62, 0.55, 0.0), 0.13),
    "i": Phone((280, 2290, 3010), 0.52, (0.32, 1.00, 0.0), 0.13),
    "o": Phone((500, 880, 2450), 0.76, (0.66, -0.55, 0.75), 0.14),
    "u": Phone((310, 760, 2240), 0.48, (0.26, -1.00, 1.0), 0.13),
}
CONSONANTS: dict[str, Phone] = {
    "m": Phone((250, 1050, 2200), 0.26, (0.0, 0.0, 0.1), 0.10, closed=True),
    "b": Phone((220, 800, 2100), 0.12, (0.0, 0.0, 0.1), 0.09, (0.10, 900, 700), closed=True, burst=0.012),
    "p": Phone((300, 900, 2200), 0.0, (0.0, 0.0, 0.1), 0.10, (0.16, 1200, 900), closed=True, burst=0.02),
    "n": Phone((270, 1500, 2500), 0.28, (0.16, 0.2, 0.0), 0.08),
    "l": Phone((360, 1250, 2700), 0.42, (0.30, 0.2, 0.0), 0.08),
    "t": Phone((400, 1750, 2600), 0.0, (0.14, 0.3, 0.0), 0.08, (0.22, 5200, 1400), burst=0.025),
    "k": Phone((350, 1600, 2400), 0.0, (0.22, 0.1, 0.0), 0.08, (0.20, 2400, 900), burst=0.025),
    "s": Phone((350, 1700, 2600), 0.0, (0.10, 0.6, 0.0), 0.10, (0.22, 5900, 1100)),
    "f": Phone((350, 1200, 2300), 0.0, (0.03, 0.1, 0.0), 0.09, (0.10, 4500, 3500)),
    "sh": Phone((350, 1700, 2400), 0.0, (0.18, -0.5, 0.6), 0.10, (0.22, 3000, 900)),
}
PHONES = VOWELS | CONSONANTS


@dataclass(frozen=True)
class Spoken:
    """One phone of a sentence.

    Attributes:
        name: Key of the phone in ``PHONES``.
        start: Start, seconds.
        end: End, seconds.
        loudness: Amplitude relative to normal stress.
        accent: Whether its syllable is stressed.
    """

    name: str
    start: float
    end: float
    loudness: float
    accent: bool


def random_sentence(
    seed: int, seconds: float, rate: float
) -> tuple[tuple[Spoken, ...], tuple[tuple[float, float], ...]]:
    """Makes a random sentence: words of one to three syllables, in phrases of two to five words.

    Args:
        seed: Seed of the sentence.
        seconds: Length of the clip, seconds.
        rate: Factor on the speaking rate.

    Returns:
        The phones, and (start, end) of each phrase in seconds.
    """
    rng = np.random.default_rng([seed, 0])
    vowels, consonants = list(VOWELS), list(CONSONANTS)
    phones: list[Spoken] = []
    phrases: list[tuple[float, float]] = []
    now = LEAD_IN
    while True:
        start = now
        for _ in range(int(rng.integers(2, 6))):
            syllables = int(rng.integers(1, 4))
            stressed, loud = int(rng.integers(syllables)), float(rng.uniform(0.85, 1.1))
            word: list[Spoken] = []
            for syllable in range(syllables):
                accent = syllable == stressed
                onset, vowel, coda = rng.choice(consonants), rng.choice(vowels), rng.choice(["n", "s", "l", "m", "t"])
                names = [str(onset), str(vowel)] + ([str(coda)] if rng.random() < 0.25 else [])
                for name in names:
                    length = PHONES[name].seconds * float(rng.uniform(0.9, 1.25)) / rate
                    length *= 1.25 if accent and name in VOWELS else 1.0
                    word.append(Spoken(name, now, now + length, loud * (1.0 if accent else 0.7), accent))
                    now += length
            if now > seconds - LEAD_OUT:
                # A first word that is too long for the clip is truncated, not dropped, so that no clip is silent.
                kept = word if not phones else []
                phones += [phone for phone in kept if phone.end <= seconds - LEAD_OUT]
                if phones and phones[-1].end > start:
                    phrases.append((start, phones[-1].end))
                return tuple(phones), tuple(phrases)
            phones += word
        phrases.append((start, now))
        now += float(rng.uniform(0.22, 0.45)) / rate
