"""Text encoder of hashed n-grams: needs no download and gives the same values on every machine.

The features of a text are its words, the 3- to 5-letter pieces of each word (so that ``joyful`` is close to
``joyfully``), and its pairs of neighbouring words (so that ``not happy`` differs from ``happy``). A hash maps each
feature to a bucket and a sign (Weinberger et al., 2009). The encoder is not trained: the model on top of it learns what
words mean, so a word outside the training data has no meaning.

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
LIMIT = 75  # words; equals CLIP's limit in tokens, so that a text accepted here usually fits there
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Splits a text into words, in lower case and NFKC; a hyphen separates words, an apostrophe does not."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return _WORD.findall(plain)


class NgramEncoder:
    """``TextEncoder`` of hashed words, word pieces and word pairs; every vector has unit length.

    Args:
        width: Number of buckets D_t.

    Raises:
        ValueError: If ``width`` is not positive.
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
        """Encodes B texts to (B, D_t) float32 vectors of unit length.

        Raises:
            TextError: If a text has no words or more than 75.
        """
        out = torch.zeros(len(texts), self.width)
        for row, text in zip(out, texts, strict=True):
            words = words_of(text)
            require_fit(text, len(words), self.limit, "words")
            places, weights = zip(*(self._hashed(name, weight) for name, weight in _features(words)), strict=True)
            row.index_add_(0, torch.tensor(places), torch.tensor(weights))
        return F.normalize(out, dim=-1)

    def _hashed(self, name: str, weight: float) -> tuple[int, float]:
        """Returns the bucket of a feature and its signed weight."""
        if name not in self._numbers:
            self._numbers[name] = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")
        number = self._numbers[name]
        return (number >> 1) % self.width, weight if number & 1 else -weight


def _features(words: list[str]) -> list[tuple[str, float]]:
    """Lists (name, weight) of all features; the pieces of a word together weigh as much as the word."""
    features = []
    for word in words:
        features.append((f"word {word}", 1.0))
        marked = f"<{word}>"
        pieces = [marked[i : i + n] for n in PIECES for i in range(len(marked) - n + 1)]
        features += [(f"piece {piece}", len(pieces) ** -0.5) for piece in pieces]
    features += [(f"pair {first} {second}", PAIR_WEIGHT) for first, second in zip(words, words[1:], strict=False)]
    return features
