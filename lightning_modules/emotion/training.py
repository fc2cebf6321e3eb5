"""The emotion experiment: learns the label table from shards, then the text mapping on top of it.

Both end as safetensors files in the run's folder. Shapes: N phrases, D_t text width, d_e expression width.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from configs.emotion import EmotionTrainConfig
from datamodules.mixture import datamodule
from encoders.factory import build_text_encoder
from encoders.protocols import Identity, TextEncoder
from encoders.text.checks import TextError
from encoders.text.ngram import words_of
from lightning_modules.emotion.phrases import Phrase, held_out_phrases, paraphrases, training_phrases
from lightning_modules.emotion.table import EmotionTable, learn_table
from lightning_modules.emotion.text_mapping import TextEmotion, TextMapping, mapping_loss

log = logging.getLogger(__name__)

TABLE_FILE = "emotion_table.safetensors"
TEXT_FILE = "emotion_text.safetensors"
REPORT_FILE = "emotion_report.json"


@dataclass(frozen=True)
class EmotionReport:
    """What the experiment gave; written as JSON beside its files.

    Attributes:
        clips: emotion and level -> training clips behind it.
        phrases: how many texts were trained on.
        frames_accuracy: share of texts in held-out frames (known words) whose nearest emotion is right.
        frames_level_accuracy: the same for emotion and level.
        paraphrase_accuracy: share of the hand-written texts whose nearest emotion is right.
        table: the label table's file.
        text: the text mapping's file.
    """

    clips: dict[str, int]
    phrases: int
    frames_accuracy: float
    frames_level_accuracy: float
    paraphrase_accuracy: float
    table: str
    text: str


class TextMappingModule(LightningModule):
    """Fits a ``TextMapping``; validation is the accuracy on texts in frames that training never shows.

    Those are read whole here; ``TextEmotion`` passes over words an n-gram encoder was not trained on, and does better.

    Args:
        mapping: to be fitted, its scales already set.
        table: what latents are judged by.
        lr: AdamW's learning rate.
    """

    def __init__(self, mapping: TextMapping, table: EmotionTable, lr: float = 1e-3) -> None:
        super().__init__()
        self.mapping = mapping
        self.table = table
        self.lr = lr

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch of text features (B, D_t) and standardised targets (B, d_e)."""
        features, target = batch
        loss = mapping_loss(self.mapping(features.float()), target)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Accuracies on features (B, D_t) whose cells (B,) are numbered as in the table."""
        features, cell = batch
        found = self.table.nearest(self.mapping.latent(features.float()).cpu())
        wanted = [self.table.cells[place] for place in cell.tolist()]
        right = [one[0] == other[0] for one, other in zip(found, wanted, strict=True)]
        exact = [one == other for one, other in zip(found, wanted, strict=True)]
        size = {"batch_size": len(wanted), "on_epoch": True}
        self.log("val/emotion_accuracy", sum(right) / len(right), prog_bar=True, **size)
        self.log("val/emotion_and_level_accuracy", sum(exact) / len(exact), **size)

    def configure_optimizers(self) -> Any:
        """AdamW with the rate falling to zero along a cosine, step by step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=1e-2)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train_emotion(
    config: EmotionTrainConfig,
    folder: Path,
    trainer_options: Mapping[str, Any] | None = None,
    encoders: Mapping[str, Identity] | None = None,
) -> EmotionReport:
    """Runs the experiment.

    Args:
        config: what to learn from and how.
        folder: where the table, the mapping and the report go.
        trainer_options: for Lightning's ``Trainer``, over the ones that follow from the configuration (loggers, ...).
        encoders: identities that the shards must have; None takes any.

    Raises:
        ShardError: when the shards cannot be used.
        EmotionError: when no training clip has an emotion, or a latent is not finite.
    """
    data = datamodule(config.data, encoders)
    data.setup("fit")
    table = learn_table(data)
    table.save(folder / TABLE_FILE)
    log.info("emotions learned from %d clips: %s", sum(table.clips), table.describe())
    encoder = build_text_encoder(config.text.name, config.device, **config.text.options)
    emotion, phrases = fit_text_mapping(table, encoder, config, folder, trainer_options)
    emotion.save(folder / TEXT_FILE)
    frames, levels = accuracy(emotion, table, held_out_phrases(table.cells, config.seed))
    written, _ = accuracy(emotion, table, paraphrases(table.cells))
    report = EmotionReport(
        clips={f"{name} {level}": count for (name, level), count in zip(table.cells, table.clips, strict=True)},
        phrases=phrases,
        frames_accuracy=frames,
        frames_level_accuracy=levels,
        paraphrase_accuracy=written,
        table=str(folder / TABLE_FILE),
        text=str(folder / TEXT_FILE),
    )
    (folder / REPORT_FILE).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
    return report


def fit_text_mapping(
    table: EmotionTable,
    encoder: TextEncoder,
    config: EmotionTrainConfig,
    folder: Path,
    trainer_options: Mapping[str, Any] | None = None,
) -> tuple[TextEmotion, int]:
    """Trains the mapping on every phrase of the table's cells.

    Returns:
        the mapping with its encoder, and how many phrases it was trained on.
    """
    phrases = training_phrases(table.cells, config.seed)
    features = encoder([phrase.text for phrase in phrases])
    targets = table.standardise(table.latents)[_cells(table, phrases)]
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        mapping = TextMapping(encoder.width, table.latents.shape[-1], config.hidden, config.dropout)
        mapping.fit_scales(features, table.mean, table.std)
        validation = held_out_phrases(table.cells, config.seed)
        Trainer(
            **{
                "max_epochs": config.epochs,
                "accelerator": config.device if config.device != "cuda" else "gpu",
                "devices": 1,
                "logger": False,
                "enable_checkpointing": False,
                "enable_model_summary": False,
                "default_root_dir": str(folder),
                "check_val_every_n_epoch": config.epochs,
                **(trainer_options or {}),
            }
        ).fit(
            TextMappingModule(mapping, table, config.lr),
            DataLoader(TensorDataset(features, targets), config.batch_size, shuffle=True, generator=generator),
            DataLoader(
                TensorDataset(encoder([phrase.text for phrase in validation]), _cells(table, validation)),
                config.batch_size,
            ),
        )
    vocabulary = sorted({word for phrase in phrases for word in words_of(phrase.text)})
    return TextEmotion(mapping.cpu(), encoder, vocabulary, table.motion), len(phrases)


def accuracy(emotion: TextEmotion, table: EmotionTable, phrases: Sequence[Phrase]) -> tuple[float, float]:
    """Shares of texts whose nearest cell has the right emotion, and the right emotion and level.

    A text that the mapping refuses is wrong.
    """
    right = exact = 0
    for text, wanted, level in phrases:
        try:
            found = table.nearest(emotion(text)[0][None])[0]
        except TextError:
            continue
        right += found[0] == wanted
        exact += found == (wanted, level)
    return right / len(phrases), exact / len(phrases)


def _cells(table: EmotionTable, phrases: Sequence[Phrase]) -> Tensor:
    """(N,) the table's cell of every phrase."""
    return torch.tensor([table.cells.index((phrase.emotion, phrase.level)) for phrase in phrases])
