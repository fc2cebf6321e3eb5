"""Hashed n-grams: equal on every machine, close for forms of a word, distant for other words."""

import pytest
import torch

from encoders import build_text_encoder
from encoders.text.checks import TextError
from encoders.text.ngram import NgramEncoder, words_of


def test_words():
    words = words_of("Don\u2019t be SAD, Müller-Lüdenscheidt! #1")
    assert words == ["don't", "be", "sad", "müller", "lüdenscheidt", "1"]


def test_unit_length_independent_of_the_batch():
    encoder = NgramEncoder()
    together = encoder(["be happy", "speak very slowly and sadly", "x"])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    assert torch.equal(together[1:2], encoder(["Speak, very slowly; and SADLY!"]))


def test_values_are_fixed():
    # The word "hi" and its pieces "<hi", "hi>" and "<hi>"; the word weighs as much as the pieces together.
    values = NgramEncoder(4096)(["hi"])[0]
    assert sorted(values[values != 0].abs().tolist()) == pytest.approx([(1 / 6) ** 0.5] * 3 + [0.5**0.5])


def test_forms_of_a_word_are_closer_than_other_words():
    joyful, joyfully, typo, angry = NgramEncoder()(["joyful", "joyfully", "joyfull", "angry"])
    assert joyful @ joyfully > 0.2
    assert joyful @ typo > 0.2
    assert abs(joyful @ angry) < 0.1


def test_order_of_words_matters():
    a, b = NgramEncoder()(["sad not happy", "happy not sad"])
    assert 0.5 < a @ b < 0.99


@pytest.mark.parametrize("text", ["", "  \n", "?!... ---"])
def test_text_without_words_is_refused(text):
    with pytest.raises(TextError, match=r"emotion\.text: .*(empty|has no words)"):
        build_text_encoder("ngram")([text])


def test_long_text_is_refused():
    encoder = NgramEncoder()
    assert encoder(["word " * 75]).shape == (1, 2048)
    with pytest.raises(TextError, match="has 76 words, expected at most 75"):
        encoder(["word " * 76])


def test_width_is_part_of_the_identity():
    assert build_text_encoder("ngram", width=512)(["a"]).shape == (1, 512)
    assert NgramEncoder(512).identity != NgramEncoder().identity
    with pytest.raises(ValueError, match=r"encoders\.text\.options\.width"):
        NgramEncoder(0)
