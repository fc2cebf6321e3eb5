"""Text to e_cond (EmotiveTalk §3.5): a frozen text encoder and a small MLP, trained to map phrases to table latents.

    e_cond = mean + std * MLP((encoder(text) - centre) / scale)
    loss = 1 - cos + MSE + cross-entropy of the nearest cell of the label table, in standardised units

Shapes: B texts, D_t text width, d_e expression width.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from encoders.protocols import Identity, TextEncoder
from encoders.text.checks import TextError
from encoders.text.ngram import words_of
from encoders.weight_files import WrongWeights
from lightning_modules.emotion.emotion_table import WRITTEN_BY, require_same_motion
from lightning_modules.emotion.phrases import (
    emotion_words,
    filler_words,
    is_form_of,
    known_entries,
    without_filler,
)
from lightning_modules.tensor_files import read_file, write_file
from runtime.checked_fields import check_count

TEXT_KIND, MAPPING_VERSION, TEXT_FILE = "emotion_text", 1, "emotion_text.safetensors"
MOST_HIDDEN = 1 << 16  # width of the mapping; the default is 256


class TextMapping(nn.Module):
    """MLP from text features to standardised expression latents.

    Args:
        text_width: D_t.
        expression_width: d_e.
        hidden: Width of the hidden layer.
        dropout: Dropout probability of the input features; keeps the output from depending on a single word piece.
    """

    centre: Tensor
    scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, text_width: int, expression_width: int, hidden: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(text_width, hidden), nn.GELU(), nn.Linear(hidden, expression_width)
        )
        self.register_buffer("centre", torch.zeros(text_width))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("mean", torch.zeros(expression_width))
        self.register_buffer("std", torch.ones(expression_width))

    def fit_scales(self, features: Tensor, mean: Tensor, std: Tensor) -> None:
        """Sets centre and scale from (N, D_t) training features, and the (d_e,) statistics of the latents."""
        self.centre.copy_(features.mean(0))
        self.scale.copy_((features - self.centre).square().mean().sqrt())
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D_t) -> (B, d_e) in standardised units."""
        return self.net((features - self.centre) / self.scale)

    def latent(self, features: Tensor) -> Tensor:
        """(B, D_t) -> (B, d_e) expression latents in the motion encoder's units."""
        return self.mean + self.std * self(features)


def mapping_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - cos + mean squared error of (B, d_e) standardised latents; zero only if they are equal."""
    # Near the origin (the mean face) the direction is not informative; there MSE dominates.
    return (1 - F.cosine_similarity(predicted, target, dim=-1, eps=1e-4)).mean() + F.mse_loss(predicted, target)


def cell_loss(predicted: Tensor, cells: Tensor, index: Tensor) -> Tensor:
    """Cross-entropy of the right cell, of which the logits are negative squared distances.

    Levels of one emotion lie in one direction, and squared errors pull uncertain latents towards the mean face, hence
    to lower levels. This loss does not.

    Args:
        predicted: (B, d_e) standardised latents.
        cells: (K, d_e) standardised latents of the table.
        index: (B,) index of the right cell.
    """
    distance = torch.cdist(predicted, cells).square()
    apart = torch.cdist(cells, cells).square()
    near = apart.masked_fill(torch.eye(len(cells), dtype=torch.bool, device=cells.device), torch.inf).amin(1)
    unit = near[near.isfinite() & (near > 0)]  # squared distance of neighbouring cells
    return F.cross_entropy(distance / (-unit.median() / 2) if len(unit) else -distance, index)


class TextEmotion:
    """A trained text mapping with its text encoder: turns a text into e_cond.

    Args:
        mapping: Trained mapping.
        encoder: Frozen text encoder that it was trained with.
        vocabulary: Words of the training phrases. An encoder that is not pretrained knows no others.
        motion: Identity of the motion encoder that defines the latents.
    """

    def __init__(self, mapping: TextMapping, encoder: TextEncoder, vocabulary: Sequence[str], motion: Identity) -> None:
        self.mapping = mapping.eval().requires_grad_(False)
        self.encoder = encoder
        self.vocabulary = frozenset(vocabulary)
        self.motion = motion
        self._emotion_words = emotion_words() & self.vocabulary

    @torch.inference_mode()
    def __call__(self, text: str) -> tuple[Tensor, tuple[str, ...]]:
        """Maps a text to an expression latent.

        With an encoder that is not pretrained, words outside of the training vocabulary are ignored: their features
        would be noise. Filler is ignored too, without a note.

        Returns:
            The (d_e,) latent, not standardised, and notes that list the ignored words.

        Raises:
            TextError: For a text without words, longer than the encoder's limit, or without any known word about an
                emotion.
        """
        features = self.encoder([text])  # the full text, so that its length is checked before words are removed
        notes: tuple[str, ...] = ()
        if not self.encoder.pretrained:
            words = words_of(text)
            self._require_emotion_word(text, words)
            known = [word for word in words if self._is_known(word)]
            if len(known) < len(words):
                features = self.encoder([" ".join(known or without_filler(words) or words)])
            if ignored := [word for word in dict.fromkeys(words) if word not in filler_words() and word not in known]:
                notes = (f"emotion.text: ignored {', '.join(ignored)}, not in the training vocabulary",)
        return self.mapping.latent(features)[0].clone(), notes

    def _is_known(self, word: str) -> bool:
        if word in self.vocabulary:
            return True
        return word not in filler_words() and is_form_of(word, self._emotion_words)

    def _require_emotion_word(self, text: str, words: list[str]) -> None:
        padded = f" {' '.join(words)} "
        if any(is_form_of(word, self._emotion_words) for word in words) or any(
            entry in padded for entry in known_entries()
        ):
            return
        long = [word for word in words if len(word) > 3]
        near = {
            match for word in long for match in difflib.get_close_matches(word, sorted(self._emotion_words), 1, 0.75)
        }
        hint = f"did you mean {' or '.join(sorted(near))}? " if near else ""
        raise TextError(
            f"emotion.text={text[:60]}: contains no emotion word that the {self.encoder.identity.name} encoder was "
            f"trained on; {hint}Use other words (angry, a warm smile, tears, ...), emotion.label, or a mapping "
            "trained with encoders/text=clip"
        )

    def save(self, path: Path) -> None:
        """Writes one safetensors file: weights, vocabulary and the identities of both encoders."""
        first = self.mapping.net[1]
        assert isinstance(first, nn.Linear)
        header = {
            "version": MAPPING_VERSION,
            "hidden": first.out_features,
            "text": asdict(self.encoder.identity),
            "motion": asdict(self.motion),
            "vocabulary": sorted(self.vocabulary),
        }
        write_file(path, TEXT_KIND, header, self.mapping.state_dict())

    @classmethod
    def load(cls, path: Path, encoder: TextEncoder, motion: Identity | None = None) -> TextEmotion:
        """Reads a file written by ``save``.

        Args:
            path: Input file.
            encoder: Text encoder in use.
            motion: Required motion encoder; None accepts any.

        Raises:
            WrongWeights: If the file is missing, damaged, of another kind, or made with other encoders.
        """
        return cls.from_plain(*read_file(path, TEXT_KIND, MAPPING_VERSION, WRITTEN_BY), path, encoder, motion)

    @classmethod
    def from_plain(
        cls,
        header: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        where: Path,
        encoder: TextEncoder,
        motion: Identity | None = None,
    ) -> TextEmotion:
        """Builds the mapping from a file's header and tensors; ``where`` is the file named in errors."""
        try:
            found, made_by = Identity(**header["text"]), Identity(**header["motion"])
            mapping = TextMapping(
                len(tensors["centre"]), len(tensors["mean"]), check_count("hidden", header["hidden"], 1, MOST_HIDDEN)
            )
            mapping.load_state_dict(tensors)
            vocabulary = [str(word) for word in header["vocabulary"]]
        except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
            raise WrongWeights(
                f"{where}: {error} is missing or malformed; train the emotion experiment again"
            ) from error
        if found != encoder.identity:
            raise WrongWeights(
                f"{where}: was trained with the text encoder {found}, the configuration has {encoder.identity}; set "
                f"encoders.text.name={found.name} with its options, or train the emotion experiment again"
            )
        require_same_motion(where, made_by, motion)
        return cls(mapping, encoder, vocabulary, made_by)
