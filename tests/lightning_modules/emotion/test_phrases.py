"""Training phrases cover every cell, are unambiguous, and contain no held-out text."""

from itertools import pairwise

import pytest

from encoders.text.ngram import words_of
from lightning_modules.emotion.lexicon import LEXICON
from lightning_modules.emotion.phrases import (
    COMMON,
    FRAMES,
    HELD_OUT_FRAMES,
    MODIFYING,
    emotion_words,
    filler_words,
    held_out_phrases,
    is_form_of,
    levelled_paraphrases,
    paraphrases,
    reduced_phrases,
    training_phrases,
    without_filler,
)
from preparation.synthetic import EMOTIONS, levels_of

CELLS = [(emotion, level) for emotion in EMOTIONS for level in levels_of(emotion)]


@pytest.mark.slow
def test_every_cell_has_phrases_and_texts_are_unique():
    phrases = training_phrases(CELLS)
    assert len({phrase.text for phrase in phrases}) == len(phrases) > 10_000
    counts = {cell: sum((p.emotion, p.level) == cell for p in phrases) for cell in CELLS}
    assert min(counts.values()) > 200, counts
    assert training_phrases(CELLS) == phrases


def test_phrases_are_limited_to_the_given_cells():
    assert {(p.emotion, p.level) for p in training_phrases([("happy", 1), ("sad", 2)])} == {("happy", 1), ("sad", 2)}
    assert {p.emotion for p in paraphrases([("happy", 1)])} == {"happy"}


def test_held_out_texts_never_occur_in_training():
    training = {" ".join(words_of(phrase.text)) for phrase in training_phrases(CELLS)}
    held_out = {" ".join(words_of(phrase.text)) for phrase in held_out_phrases(CELLS) + paraphrases(CELLS)}
    assert not sorted(held_out & training)
    for kind, frames in HELD_OUT_FRAMES.items():
        assert not set(frames) & set(FRAMES[kind])


def test_hand_written_levels_are_held_out_and_cover_every_cell():
    written = levelled_paraphrases(CELLS)
    assert {(phrase.emotion, phrase.level) for phrase in written} == set(CELLS)
    training = {phrase.text for phrase in reduced_phrases(training_phrases(CELLS))}
    training |= {" ".join(words_of(phrase.text)) for phrase in training_phrases(CELLS)}
    assert not {" ".join(words_of(phrase.text)) for phrase in written} & training


def test_filler_is_left_out():
    assert without_filler(["cousin", "said", "that", "she", "is", "a", "bit", "angry"]) == ["cousin", "bit", "angry"]
    assert without_filler(["please", "speak", "with", "a", "lot", "of", "joy", "in", "the", "video"]) == ["lot", "joy"]
    assert without_filler(["just", "talk", "to", "the", "camera"]) == ["just", "talk"]  # an entry of the lexicon
    assert without_filler(["speak", "to", "the", "camera"]) == []
    reduced = reduced_phrases(training_phrases([("angry", 3), ("neutral", 1)]))
    assert {"very furious", "furious", "not furious"} <= {phrase.text for phrase in reduced}
    assert len({phrase.text for phrase in reduced}) == len(reduced)
    filler = filler_words()
    assert not {"very", "so", "really", "not", "no", "without", "never", "lot", "bit", "even", "down"} & filler
    assert {"she", "the", "voice", "video", "face"} <= filler


def test_words_around_a_phrase_do_not_change_its_level():
    assert not {"so", "very", "really"} & set(COMMON)
    assert not MODIFYING & set(COMMON)


def test_levels_follow_word_and_modifier():
    levels = {phrase.text: phrase.level for phrase in training_phrases(CELLS)}
    assert (levels["angry, level 1"], levels["level 3 anger"]) == (1, 3)
    for emotion, words in LEXICON.items():
        for own, adjectives in enumerate(words.adjectives, start=1):
            for word in adjectives:
                if emotion != "neutral" and f"very {word}" in levels:
                    assert levels[f"very {word}"] == min(own + 1, 3)


def test_no_word_belongs_to_two_emotions():
    owner = {}
    for emotion, words in LEXICON.items():
        for level in words.adjectives + words.adverbs + words.nouns:
            for word in level:
                assert owner.setdefault(word, emotion) == emotion, word


def test_emotion_words_exclude_common_words():
    assert {"furious", "joyfully", "tears", "terror", "yuck", "smirk"} <= emotion_words()
    assert not {"the", "speak", "voice", "very", "level", "your"} & emotion_words()
    assert is_form_of("smiles", emotion_words())
    assert is_form_of("terrifying", emotion_words())
    assert not is_form_of("table", emotion_words())


def test_adjacent_levels_share_no_word():
    for words in LEXICON.values():
        for kind in (words.adjectives, words.adverbs, words.nouns, words.actions):
            assert not any(set(one) & set(other) for one, other in pairwise(kind))
