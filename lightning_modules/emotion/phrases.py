"""English texts that ask for an emotion at a level: training and evaluation data of the text mapping.

Each word has a level (annoyed 1, angry 2, furious 3). A modifier lowers or raises it by one ("slightly furious" is 2).
A negated word ("not sad") means neutral. Held-out sentence frames and paraphrases never occur in training. The texts
are in ``english.yaml``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from functools import cache
from typing import NamedTuple

from encoders.text.ngram import words_of
from lightning_modules.emotion.lexicon import ENGLISH, LEXICON, Words, all_words

Cell = tuple[str, int]


class Phrase(NamedTuple):
    """A text and the emotion and level it asks for."""

    text: str
    emotion: str
    level: int


Table = dict[str, tuple[str, ...]]
MODIFIERS: dict[int, tuple[str, ...]] = ENGLISH["modifiers"]
AMOUNTS: dict[int, tuple[str, ...]] = ENGLISH["amounts"]
FRAMES: Table = ENGLISH["frames"]
HELD_OUT_FRAMES: Table = ENGLISH["held_out_frames"]
LEVEL_FRAMES: tuple[str, ...] = ENGLISH["level_frames"]
NEGATIONS: Table = ENGLISH["negations"]
BEFORE: tuple[str, ...] = ENGLISH["before"]
AFTER: tuple[str, ...] = ENGLISH["after"]
# Words that change the level: "a lot of" is known by "lot".
MODIFYING = frozenset(
    word
    for texts in (*MODIFIERS.values(), *AMOUNTS.values())
    for text in texts
    for word in words_of(text)
    if text == word or word not in ("a", "of")
)
COMMON = tuple(word for word in words_of(ENGLISH["common"]) if word not in MODIFYING)
PARAPHRASES: Table = ENGLISH["paraphrases"]
LEVELLED: dict[str, tuple[tuple[str, ...], ...]] = ENGLISH["levelled"]  # emotion -> texts of levels 1, 2 and 3


def training_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in every training frame with random modifiers, plus labels with levels.

    Args:
        cells: Emotions and levels to include; phrases of others are left out.
        seed: Seed of the modifiers and of the surrounding words.
    """
    rng = random.Random(seed)
    made = [phrase for emotion in LEXICON for phrase in _of_words(emotion, FRAMES, rng)]
    made += [_surrounded(phrase, rng) for phrase in made]
    for emotion, words in LEXICON.items():
        for kind, frames in NEGATIONS.items():
            negated = [word for level in (1, 2, 3) for word in _kind(words, level, kind)]
            made += [
                Phrase(frame.format(word), "neutral", 1)
                for word in negated
                for frame in rng.sample(frames, 2)
                if emotion != "neutral"
            ]
        names = (emotion, *words.names)
        made += [
            Phrase(frame.format(emotion=name, level=level), emotion, level)
            for name in names
            for level in ((1,) if emotion == "neutral" else (1, 2, 3))
            for frame in LEVEL_FRAMES
        ]
    held_out = {_plainly(text) for texts in PARAPHRASES.values() for text in texts}
    held_out |= {_plainly(text) for levels in LEVELLED.values() for texts in levels for text in texts}
    return [phrase for phrase in _wanted(made, cells) if _plainly(phrase.text) not in held_out]


def held_out_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in frames that do not occur in training."""
    rng = random.Random(seed)
    return _wanted([phrase for emotion in LEXICON for phrase in _of_words(emotion, HELD_OUT_FRAMES, rng)], cells)


def paraphrases(cells: Collection[Cell]) -> list[Phrase]:
    """Hand-written texts. They imply no level and are assigned level 2 (level 1 for neutral, its only one)."""
    emotions = {emotion for emotion, _ in cells}
    return [
        Phrase(text, emotion, 1 if emotion == "neutral" else 2)
        for emotion, texts in PARAPHRASES.items()
        if emotion in emotions
        for text in texts
    ]


def reduced_phrases(phrases: Sequence[Phrase]) -> list[Phrase]:
    """The phrases without filler, each text once."""
    made: dict[str, Phrase] = {}
    for phrase in phrases:
        if text := " ".join(without_filler(words_of(phrase.text))):
            made.setdefault(text, phrase._replace(text=text))
    return list(made.values())


def levelled_paraphrases(cells: Collection[Cell]) -> list[Phrase]:
    """Hand-written texts that ask for a level."""
    return [
        Phrase(text, emotion, level)
        for emotion, levels in LEVELLED.items()
        for level, texts in enumerate(levels, start=1)
        if (emotion, level) in cells
        for text in texts
    ]


def _of_words(emotion: str, all_frames: Table, rng: random.Random) -> list[Phrase]:
    made = []
    for kind, frames in all_frames.items():
        for own in (1, 2, 3):
            for word in _kind(LEXICON[emotion], own, kind):
                for frame in frames:
                    shift = rng.choice((-1, 0, 0, 1))
                    text = word if kind == "actions" else _modified(word, kind, shift, rng)
                    level = own if kind == "actions" else min(max(own + shift, 1), 3)
                    made.append(Phrase(frame.format(text), emotion, 1 if emotion == "neutral" else level))
    return made


def _kind(words: Words, level: int, kind: str) -> tuple[str, ...]:
    found: tuple[str, ...] = getattr(words, kind)[level - 1]
    return found


def _modified(word: str, kind: str, shift: int, rng: random.Random) -> str:
    return f"{rng.choice((AMOUNTS if kind == 'nouns' else MODIFIERS)[shift])} {word}".strip()


def _surrounded(phrase: Phrase, rng: random.Random) -> Phrase:
    before = f"{rng.choice(BEFORE)} " if rng.random() < 0.4 else ""
    after = f" {rng.choice(AFTER)}" if rng.random() < 0.5 else ""
    around = [rng.choice(COMMON) for _ in range(rng.randint(0, 6))]
    split = rng.randint(0, len(around))
    first, last = " ".join(around[:split]), " ".join(around[split:])
    return phrase._replace(text=f"{before}{first} {phrase.text} {last}{after}".strip().replace("  ", " "))


def _wanted(phrases: list[Phrase], cells: Collection[Cell]) -> list[Phrase]:
    """The phrases of the given cells, without duplicates and with corrected articles (a/an)."""
    seen: dict[str, Phrase] = {}
    for phrase in phrases:
        if (phrase.emotion, phrase.level) in cells:
            text = re.sub(r"\ba (?=[aeiou])", "an ", re.sub(r"\b(a|an) (?=(a|some) )", "", phrase.text))
            seen.setdefault(text, phrase._replace(text=text))
    return list(seen.values())


def _plainly(text: str) -> str:
    return " ".join(words_of(text))


@cache
def emotion_words() -> frozenset[str]:
    """Single words of the lexicon that indicate an emotion on their own."""
    around = [*BEFORE, *AFTER, *LEVEL_FRAMES, ENGLISH["plain"]]
    around += [text for table in (MODIFIERS, AMOUNTS) for texts in table.values() for text in texts]
    around += [frame for table in (FRAMES, HELD_OUT_FRAMES) for frames in table.values() for frame in frames]
    entries = [entry for emotion, words in LEXICON.items() for entry in (emotion, *all_words(words))]
    return frozenset(words_of(" ".join(entries))) - frozenset(words_of(" ".join(around)))


@cache
def filler_words() -> frozenset[str]:
    """Words of the training frames and ordinary words, which say nothing of an emotion or its level."""
    around = [*COMMON, *BEFORE, *AFTER, *(frame for frames in FRAMES.values() for frame in frames)]
    entries = [words_of(entry) for emotion, words in LEXICON.items() for entry in (emotion, *all_words(words))]
    meant = [entry[0] for entry in entries if len(entry) == 1]
    return frozenset(words_of(" ".join(around))) - frozenset(meant) - MODIFYING


def without_filler(words: Sequence[str]) -> list[str]:
    """The words that are no filler; if there are none, those of the first multi-word entry of the lexicon in the text.

    An encoder that is not pretrained learns levels from the other words only if those around them do not vary.
    """
    if kept := [word for word in words if word not in filler_words()]:
        return kept
    padded = f" {' '.join(words)} "
    return next((entry.split() for entry in known_entries() if entry in padded), [])


@cache
def known_entries() -> tuple[str, ...]:
    """Multi-word entries of the lexicon, padded with spaces: some indicate an emotion only as a whole."""
    entries = {" ".join(words_of(entry)) for words in LEXICON.values() for entry in all_words(words)}
    return tuple(sorted(f" {entry} " for entry in entries if " " in entry))


def is_form_of(word: str, known: Collection[str]) -> bool:
    """Whether a word is in ``known`` or shares its first six letters with one of them (terrifying, terrified)."""
    if word in known or word.removesuffix("s") in known:
        return True
    return any(len(other) > 3 and word.startswith(other[:6]) for other in known)
