"""English words for MEAD's eight emotions, by part of speech and level, read from ``english.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

Levels = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]


class Words(NamedTuple):
    """Words for one emotion. Each part of speech holds three tuples, for levels 1, 2 and 3.

    Attributes:
        names: Synonyms of the label itself; used like the label in phrases that name a level.
    """

    names: tuple[str, ...]
    adjectives: Levels
    adverbs: Levels
    nouns: Levels
    actions: Levels


def all_words(words: Words) -> set[str]:
    """All names, adjectives, adverbs, nouns and actions of an emotion."""
    kinds = (words.adjectives, words.adverbs, words.nouns, words.actions)
    return {*words.names, *(word for kind in kinds for level in kind for word in level)}


def _as_tuples(value: Any) -> Any:
    """Converts nested lists to tuples."""
    if isinstance(value, dict):
        return {key: _as_tuples(part) for key, part in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


ENGLISH: dict[str, Any] = _as_tuples(
    yaml.safe_load(Path(__file__).with_name("english.yaml").read_text(encoding="utf-8"))
)
LEXICON: dict[str, Words] = {emotion: Words(**words) for emotion, words in ENGLISH["lexicon"].items()}
