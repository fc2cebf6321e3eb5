"""Hashed n-grams: a text encoder that needs no download and gives the same numbers on every machine.

A text is the sum of its words, of the 3- to 5-letter pieces of each word (so that ``joyful`` lies near ``joyfully``),
and of its pairs of neighbouring words (so that ``not happy`` is not ``happy``). Each is hashed to a place and a sign
(Weinberger et al. 2009). It knows no meanings: what a word means is learned by what stands on top of it, so a word that
was never trained on means nothing.

Shapes: B texts, D_t buckets.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.protocols import Identity
from encoders.text.checks import require_fit

PIECES = (3, 4, 5)
PAIR_WEIGHT = 0.7
LIMIT = 75  # words: as many as CLIP reads tokens, so that a text that fits here has a chance to fit there
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case and compatibility form; a hyphen parts words, an apostrophe does not."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _WORD.findall(plain)


class NgramEncoder:
    """``TextEncoder`` of hashed words, word pieces and word pairs; every vector has unit length.

    Args:
        width: D_t, the number of buckets.

    Raises:
        ValueError: if ``width`` is not positive.
    """

    limit = LIMIT
    pretrained = False

    def __init__(self, width: int = 2048) -> None:
        if width < 1:
            raise ValueError(f"encoders.text.options.width: must be at least 1, found {width}")
        self.width = width
        self.identity = Identity("ngram", {"width": width})
        self._numbers: dict[str, int] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, D_t) float32 of unit length.

        Raises:
            TextError: for a text without words or with more than 75.
        """
        out = torch.zeros(len(texts), self.width)
        for row, text in zip(out, texts, strict=True):
            words = words_of(text)
            require_fit(text, len(words), self.limit, "words")
            places, weights = zip(*(self._hashed(name, weight) for name, weight in _features(words)), strict=True)
            row.index_add_(0, torch.tensor(places), torch.tensor(weights))
        return F.normalize(out, dim=-1)

    def _hashed(self, name: str, weight: float) -> tuple[int, float]:
        """The place of a feature, and its weight with its sign."""
        if name not in self._numbers:
            self._numbers[name] = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        number = self._numbers[name]
        return (number >> 1) % self.width, weight if number & 1 else -weight


def _features(words: list[str]) -> list[tuple[str, float]]:
    """Names and weights of everything a list of words holds; a word's pieces together weigh as much as the word."""
    features = []
    for word in words:
        features.append((f"word {word}", 1.0))
        marked = f"<{word}>"
        pieces = [marked[i : i + n] for n in PIECES for i in range(len(marked) - n + 1)]
        features += [(f"piece {piece}", len(pieces) ** -0.5) for piece in pieces]
    features += [(f"pair {first} {second}", PAIR_WEIGHT) for first, second in zip(words, words[1:], strict=False)]
    return features
