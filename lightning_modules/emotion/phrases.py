"""English ways of asking for an emotion at a level: what the text mapping learns from, and what it is held against.

Every word has a level of its own (annoyed 1, angry 2, furious 3) that a modifier lowers or raises by one ("slightly
furious" is 2). What is negated ("not sad") counts as neutral. Held-out frames and paraphrases never occur in training.
The texts themselves are in ``english.yaml``.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection
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
COMMON = tuple(words_of(ENGLISH["common"]))
PARAPHRASES: Table = ENGLISH["paraphrases"]


def training_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in every training frame, with modifiers drawn at random, and labels with levels.

    Args:
        cells: the emotions and levels to ask for; a phrase of another one is left out.
        seed: of the modifiers and surroundings.
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
    return [phrase for phrase in _wanted(made, cells) if _plainly(phrase.text) not in held_out]


def held_out_phrases(cells: Collection[Cell], seed: int = 0) -> list[Phrase]:
    """Every word of the lexicon in frames that training never shows."""
    rng = random.Random(seed)
    return _wanted([phrase for emotion in LEXICON for phrase in _of_words(emotion, HELD_OUT_FRAMES, rng)], cells)


def paraphrases(cells: Collection[Cell]) -> list[Phrase]:
    """The hand-written texts; their level is open, so they carry the middle one, or the only one there is."""
    emotions = {emotion for emotion, _ in cells}
    return [
        Phrase(text, emotion, 1 if emotion == "neutral" else 2)
        for emotion, texts in PARAPHRASES.items()
        if emotion in emotions
        for text in texts
    ]


def _of_words(emotion: str, all_frames: Table, rng: random.Random) -> list[Phrase]:
    made = []
    for kind, frames in all_frames.items():
        for own in (1, 2, 3):
            for word in _kind(LEXICON[emotion], own, kind):
                for frame in frames:
                    shift = rng.choice((-1, 0, 0, 1))
                    filled = word if kind == "actions" else _modified(word, kind, shift, rng)
                    level = own if kind == "actions" else min(max(own + shift, 1), 3)
                    made.append(Phrase(frame.format(filled), emotion, 1 if emotion == "neutral" else level))
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
    """The phrases of the given cells, each text once, with their articles put right."""
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
    """The single words of the lexicon that say something about an emotion by themselves."""
    around = [*BEFORE, *AFTER, *LEVEL_FRAMES, ENGLISH["plain"]]
    around += [text for table in (MODIFIERS, AMOUNTS) for texts in table.values() for text in texts]
    around += [frame for table in (FRAMES, HELD_OUT_FRAMES) for frames in table.values() for frame in frames]
    entries = [entry for emotion, words in LEXICON.items() for entry in (emotion, *all_words(words))]
    return frozenset(words_of(" ".join(entries))) - frozenset(words_of(" ".join(around)))


@cache
def known_entries() -> tuple[str, ...]:
    """The lexicon's entries of several words, each between spaces: some tell an emotion only as a whole."""
    entries = {" ".join(words_of(entry)) for words in LEXICON.values() for entry in all_words(words)}
    return tuple(sorted(f" {entry} " for entry in entries if " " in entry))


def is_form_of(word: str, known: Collection[str]) -> bool:
    """Whether a word is one of the known, or begins like one, as ``terrifying`` does like ``terrified``."""
    if word in known or word.removesuffix("s") in known:
        return True
    return any(len(other) > 3 and word.startswith(other[:6]) for other in known)
