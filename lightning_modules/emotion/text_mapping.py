"""Text to e_cond (EmotiveTalk §3.5): a frozen text encoder and a small MLP, trained on phrases against the table.

    e_cond = mean + std * MLP((encoder(text) - centre) / scale)        loss = 1 - cos + MSE, both in standardised units

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
from lightning_modules.emotion.phrases import emotion_words, is_form_of, known_entries
from lightning_modules.tensor_files import read_file, write_file

TEXT_KIND, MAPPING_VERSION, TEXT_FILE = "emotion_text", 1, "emotion_text.safetensors"


class TextMapping(nn.Module):
    """Text features to a standardised expression latent.

    Args:
        text_width: D_t.
        expression_width: d_e.
        hidden: width of the hidden layer.
        dropout: share of the features dropped in training, so that no single word piece decides.
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
        """Takes the features' centre and overall spread from (N, D_t) features, and the latents' (d_e,) statistics."""
        self.centre.copy_(features.mean(0))
        self.scale.copy_((features - self.centre).square().mean().sqrt())
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, features: Tensor) -> Tensor:
        """(B, D_t) -> (B, d_e) in standardised units."""
        return self.net((features - self.centre) / self.scale)

    def latent(self, features: Tensor) -> Tensor:
        """(B, D_t) -> (B, d_e) expression latents as the motion encoder gives them, not standardised."""
        return self.mean + self.std * self(features)


def mapping_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """1 - cos + mean squared error of (B, d_e) standardised latents; zero only where they are equal."""
    # The mean face lies near the origin, where a direction means little; MSE alone then decides.
    return (1 - F.cosine_similarity(predicted, target, dim=-1, eps=1e-4)).mean() + F.mse_loss(predicted, target)


class TextEmotion:
    """A trained mapping with its text encoder: what turns typed words into e_cond.

    Args:
        mapping: trained.
        encoder: the frozen text encoder it was trained on.
        vocabulary: the words training showed. An encoder that is not pretrained knows no others.
        motion: identity of the encoder whose latents it gives.
    """

    def __init__(self, mapping: TextMapping, encoder: TextEncoder, vocabulary: Sequence[str], motion: Identity) -> None:
        self.mapping = mapping.eval().requires_grad_(False)
        self.encoder = encoder
        self.vocabulary = frozenset(vocabulary)
        self.motion = motion
        self._emotion_words = emotion_words() & self.vocabulary

    @torch.inference_mode()
    def __call__(self, text: str) -> tuple[Tensor, tuple[str, ...]]:
        """The latent a text asks for, and what a person should know about it.

        An encoder that is not pretrained reads only the words it was trained on, and their other forms; to it the rest
        would be noise.

        Returns:
            (d_e,) not standardised, and notes: the words that were passed over.

        Raises:
            TextError: for a text without words, over the encoder's limit, or without a single word about an emotion
                that the encoder knows.
        """
        features = self.encoder([text])  # whole, so that what is too long is refused whatever its words are
        notes: tuple[str, ...] = ()
        if not self.encoder.pretrained:
            words = words_of(text)
            self._require_emotion_word(text, words)
            known = [word for word in words if word in self.vocabulary or is_form_of(word, self._emotion_words)]
            if passed_over := [word for word in dict.fromkeys(words) if word not in known]:
                notes = (f"emotion.text: passed over {', '.join(passed_over)}, which training never showed",)
                features = self.encoder([" ".join(known)])
        return self.mapping.latent(features)[0].clone(), notes

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
            f"emotion.text={text[:60]}: holds no word about an emotion that the {self.encoder.identity.name} encoder "
            f"was trained on; {hint}Say it with other words (angry, a warm smile, tears, ...), use emotion.label, or a "
            "mapping trained with encoders/text=clip"
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
        """Reads what ``save`` wrote.

        Args:
            path: the file.
            encoder: the text encoder in use.
            motion: the motion encoder in use; None takes any.

        Raises:
            WrongWeights: when the file is missing, damaged, something else, or made with other encoders.
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
        """The mapping from a file's header and tensors; ``where`` names the file in the errors of ``load``."""
        try:
            found, made_by = Identity(**header["text"]), Identity(**header["motion"])
            mapping = TextMapping(len(tensors["centre"]), len(tensors["mean"]), int(header["hidden"]))
            mapping.load_state_dict(tensors)
            vocabulary = [str(word) for word in header["vocabulary"]]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WrongWeights(
                f"{where}: {error} is missing or malformed; train the emotion experiment again"
            ) from error
        if found != encoder.identity:
            raise WrongWeights(
                f"{where}: was trained on the text encoder {found}, the configuration wants {encoder.identity}; set "
                f"encoders.text.name={found.name} with its options, or train the emotion experiment again"
            )
        require_same_motion(where, made_by, motion)
        return cls(mapping, encoder, vocabulary, made_by)
