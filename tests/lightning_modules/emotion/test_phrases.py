"""What the mapping learns from covers every cell, says one thing per text, and never shows what is held out."""

from itertools import pairwise

import pytest

from encoders.text.ngram import words_of
from lightning_modules.emotion.lexicon import LEXICON
from lightning_modules.emotion.phrases import (
    FRAMES,
    HELD_OUT_FRAMES,
    emotion_words,
    held_out_phrases,
    is_form_of,
    paraphrases,
    training_phrases,
)
from preparation.synthetic import EMOTIONS, levels_of

CELLS = [(emotion, level) for emotion in EMOTIONS for level in levels_of(emotion)]


@pytest.mark.slow
def test_every_cell_has_phrases_and_every_text_one_meaning():
    phrases = training_phrases(CELLS)
    assert len({phrase.text for phrase in phrases}) == len(phrases) > 10_000
    counts = {cell: sum((p.emotion, p.level) == cell for p in phrases) for cell in CELLS}
    assert min(counts.values()) > 200, counts
    assert training_phrases(CELLS) == phrases


def test_only_the_cells_there_are():
    assert {(p.emotion, p.level) for p in training_phrases([("happy", 1), ("sad", 2)])} == {("happy", 1), ("sad", 2)}
    assert {p.emotion for p in paraphrases([("happy", 1)])} == {"happy"}


def test_held_out_texts_never_occur_in_training():
    training = {" ".join(words_of(phrase.text)) for phrase in training_phrases(CELLS)}
    held_out = {" ".join(words_of(phrase.text)) for phrase in held_out_phrases(CELLS) + paraphrases(CELLS)}
    assert not sorted(held_out & training)
    for kind, frames in HELD_OUT_FRAMES.items():
        assert not set(frames) & set(FRAMES[kind])


def test_levels_follow_word_and_modifier():
    levels = {phrase.text: phrase.level for phrase in training_phrases(CELLS)}
    assert (levels["angry, level 1"], levels["level 3 anger"]) == (1, 3)
    for emotion, words in LEXICON.items():
        for own, adjectives in enumerate(words.adjectives, start=1):
            for word in adjectives:
                if emotion != "neutral" and f"very {word}" in levels:
                    assert levels[f"very {word}"] == min(own + 1, 3)


def test_no_word_stands_for_two_emotions():
    owner = {}
    for emotion, words in LEXICON.items():
        for level in words.adjectives + words.adverbs + words.nouns:
            for word in level:
                assert owner.setdefault(word, emotion) == emotion, word


def test_telling_words_are_those_of_feelings():
    assert {"furious", "joyfully", "tears", "terror", "yuck", "smirk"} <= emotion_words()
    assert not {"the", "speak", "voice", "very", "level", "your"} & emotion_words()
    assert is_form_of("smiles", emotion_words())
    assert is_form_of("terrifying", emotion_words())
    assert not is_form_of("table", emotion_words())


def test_levels_of_a_kind_are_apart():
    for words in LEXICON.values():
        for kind in (words.adjectives, words.adverbs, words.nouns, words.actions):
            assert not any(set(one) & set(other) for one, other in pairwise(kind))
