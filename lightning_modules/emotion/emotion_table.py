"""Label table: e_cond of an emotion and level is the mean expression latent of the training clips with that label.

Shapes: K cells, F frames, d_e expression width. Latents are in the motion encoder's units, not standardised.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datamodules.splits.clip_names import EMOTIONS
from encoders.protocols import Identity
from encoders.weight_files import WrongWeights
from lightning_modules.emotion.lexicon import LEXICON, all_words
from lightning_modules.tensor_files import read_file, write_file
from runtime.errors import UserError

if TYPE_CHECKING:
    from datamodules.datamodule import ShardDataModule  # imports Lightning, which generation does not need

LEVELS = (1, 2, 3)
TABLE_KIND, TABLE_VERSION, TABLE_FILE = "emotion_table", 1, "emotion_table.safetensors"
WRITTEN_BY = "train.py experiment=emotion/..."
Cell = tuple[str, int]


class EmotionError(UserError):
    """An emotion configuration that cannot be resolved."""


@dataclass(frozen=True)
class EmotionTable:
    """Mean expression latents per emotion and level.

    Attributes:
        cells: K pairs of emotion and level, in MEAD's order.
        latents: (K, d_e) average over clips of the clip's mean latent; all clips have equal weight.
        clips: K numbers of clips per cell.
        mean: (d_e,) mean over all frames of the training split, labelled or not.
        std: (d_e,) standard deviation over the same frames; unit of ``nearest``.
        motion: Identity of the motion encoder.
    """

    cells: tuple[Cell, ...]
    latents: Tensor
    clips: tuple[int, ...]
    mean: Tensor
    std: Tensor
    motion: Identity

    @property
    def emotions(self) -> tuple[str, ...]:
        """Emotions of the table, in MEAD's order."""
        return tuple(dict.fromkeys(emotion for emotion, _ in self.cells))

    def levels_of(self, emotion: str) -> tuple[int, ...]:
        """Levels of an emotion in the table, ascending."""
        return tuple(level for name, level in self.cells if name == emotion)

    def lookup(self, emotion: str, level: int | None = None) -> Tensor:
        """Returns the (d_e,) mean latent of an emotion at a level.

        Args:
            emotion: One of ``emotions``; case and surrounding whitespace are ignored.
            level: Level from 1 to 3; None for 2, or the level nearest to it.

        Raises:
            EmotionError: If emotion or level is not in the table; the message lists those that are.
        """
        name = emotion.strip().casefold()
        if name not in self.emotions:
            raise EmotionError(f"emotion.label={emotion}: {self._why_unknown(name)}; {self.describe()}")
        levels = self.levels_of(name)
        if level is None:
            level = min(levels, key=lambda known: (abs(known - 2), known))
        if level not in levels:
            nearest = min(levels, key=lambda known: abs(known - level))
            whole = "" if level in LEVELS else f" levels are whole numbers from {LEVELS[0]} to {LEVELS[-1]};"
            raise EmotionError(
                f"emotion.level={level}: no training clip is {name} at that level;{whole} {name} has "
                f"{', '.join(map(str, levels))}. Use level {nearest}, and emotion.strength to weaken or strengthen it"
            )
        return self.latents[self.cells.index((name, level))].clone()

    def standardise(self, expression: Tensor) -> Tensor:
        """(..., d_e) -> the same, standardised with the mean and deviation of the training split."""
        return (expression - self.mean) / self.std

    def nearest(self, expression: Tensor) -> list[Cell]:
        """Nearest cell of each of (B, d_e) latents, by distance in standardised units."""
        distance = torch.cdist(self.standardise(expression), self.standardise(self.latents))
        return [self.cells[place] for place in distance.argmin(-1).tolist()]

    def describe(self) -> str:
        """Emotions and levels of the table, for messages."""
        parts = [f"{emotion} ({', '.join(map(str, self.levels_of(emotion)))})" for emotion in self.emotions]
        return f"known emotions and levels: {', '.join(parts)}"

    def _why_unknown(self, name: str) -> str:
        if name in EMOTIONS:
            return "no training clip shows that emotion"
        near = [emotion for emotion in self.emotions if name in all_words(LEXICON[emotion])]
        near += difflib.get_close_matches(name, self.emotions, n=1, cutoff=0.4)
        return f"not the name of an emotion{f', did you mean {near[0]}?' if near else ''}"

    def save(self, path: Path) -> None:
        """Writes one safetensors file with a JSON header."""
        write_file(path, TABLE_KIND, *self.plain())

    @classmethod
    def load(cls, path: Path, motion: Identity | None = None) -> EmotionTable:
        """Reads a file written by ``save``.

        Args:
            path: Input file.
            motion: Required motion encoder; None accepts any.

        Raises:
            WrongWeights: If the file is missing, damaged, of another kind, or of another motion encoder.
        """
        table = cls.from_plain(*read_file(path, TABLE_KIND, TABLE_VERSION, WRITTEN_BY), path)
        require_same_motion(path, table.motion, motion)
        return table

    def plain(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The table as a JSON-serialisable header and tensors."""
        header = {"version": TABLE_VERSION, "cells": self.cells, "clips": self.clips, "motion": asdict(self.motion)}
        return header, {"latents": self.latents, "mean": self.mean, "std": self.std}

    @classmethod
    def from_plain(cls, header: Mapping[str, Any], tensors: Mapping[str, Tensor], where: Path) -> EmotionTable:
        """Builds a table from the result of ``plain``; ``where`` is the file named in errors.

        Raises:
            WrongWeights: If an entry is missing or malformed.
        """
        try:
            return cls(
                cells=tuple((str(emotion), int(level)) for emotion, level in header["cells"]),
                latents=tensors["latents"],
                clips=tuple(header["clips"]),
                mean=tensors["mean"],
                std=tensors["std"],
                motion=Identity(**header["motion"]),
            )
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise WrongWeights(
                f"{where}: {error} is missing or malformed; train the emotion experiment again"
            ) from error


def require_same_motion(path: Path, found: Identity, wanted: Identity | None) -> None:
    """Checks that a file was made with the motion encoder in use; ``wanted=None`` accepts any.

    Raises:
        WrongWeights: If it was not; the message names both encoders.
    """
    if wanted is not None and found != wanted:
        raise WrongWeights(
            f"{path}: its expression latents come from {found}, this experiment's from {wanted}; train the emotion "
            "experiment again on this experiment's shards"
        )


def learn_table(data: ShardDataModule) -> EmotionTable:
    """Computes the label table of a data module's training split.

    Args:
        data: Data module, set up or not. Complete clips are read, not windows.

    Raises:
        ShardError: If shards are damaged or the split is empty.
        EmotionError: If no training clip has an emotion label, or a latent is not finite; the message names the clip.
    """
    means: dict[Cell, list[Tensor]] = {}
    frames, total, squares = 0, torch.zeros(()), torch.zeros(())
    for clip, _, expression in data.motions("train"):
        values = torch.from_numpy(expression).double()
        if not values.isfinite().all():
            raise EmotionError(
                f"{clip.entry.shard}: {clip.key}.expression.npy holds NaN or infinite values; run prepare.py task=check"
            )
        frames, total, squares = frames + len(values), total + values.sum(0), squares + values.square().sum(0)
        emotion, level = clip.entry.emotion, clip.entry.level
        if emotion in EMOTIONS and level in LEVELS:
            means.setdefault((emotion, level), []).append(values.mean(0))
    if not means:
        raise EmotionError(
            f"data.root={data.config.root or dict(data.config.roots)}: none of the training clips has an emotion and "
            "level; use MEAD or synthetic shards (HDTF has no labels)"
        )
    cells = tuple((emotion, level) for emotion in EMOTIONS for level in LEVELS if (emotion, level) in means)
    mean = total / frames
    # A constant dimension carries no information; its deviation only has to be finite and not zero.
    std = (squares / frames - mean.square()).clamp(min=0).sqrt().clamp(min=1e-6)
    return EmotionTable(
        cells=cells,
        latents=torch.stack([torch.stack(means[cell]).mean(0) for cell in cells]).float(),
        clips=tuple(len(means[cell]) for cell in cells),
        mean=mean.float(),
        std=std.float(),
        motion=data.index.encoders["motion"],
    )
