"""Training of the emotion stage: computes the label table from shards, then trains the text mapping on it.

Both are written to the run directory as safetensors files.

Shapes: N phrases, B texts of a batch, D_t text width, d_e expression width.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from configs.emotion import EmotionModelConfig
from datamodules.datamodule import ShardDataModule
from encoders.factory import build_text_encoder
from encoders.protocols import TextEncoder
from encoders.text.checks import TextError
from encoders.text.ngram import words_of
from lightning_modules.emotion.emotion_table import TABLE_FILE, EmotionTable, learn_table
from lightning_modules.emotion.phrases import (
    Phrase,
    filler_words,
    held_out_phrases,
    levelled_paraphrases,
    paraphrases,
    reduced_phrases,
    training_phrases,
)
from lightning_modules.emotion.text_mapping import TEXT_FILE, TextEmotion, TextMapping, cell_loss, mapping_loss
from lightning_modules.validation import ValidationMeans

log = logging.getLogger(__name__)

REPORT_FILE = "emotion_report.json"


@dataclass(frozen=True)
class EmotionReport:
    """Accuracy of the text mapping, written as JSON to the run directory. A rejected text counts as wrong.

    Attributes:
        clips: "emotion level" -> number of training clips.
        phrases: Number of training phrases.
        frames_emotion: Accuracy of the emotion on known words in held-out sentence frames, 0 to 1.
        frames_level: Accuracy of emotion and level together on the same texts, 0 to 1.
        paraphrases_emotion: Accuracy of the emotion on the hand-written paraphrases, 0 to 1.
        paraphrases_level: Accuracy of emotion and level together on hand-written texts that ask for a level, 0 to 1.
    """

    clips: dict[str, int]
    phrases: int
    frames_emotion: float
    frames_level: float
    paraphrases_emotion: float
    paraphrases_level: float


class EmotionModule(LightningModule):
    """Trains a ``TextMapping`` and writes table, mapping and report into the run directory.

    It defines its own data loaders, so ``Trainer.fit`` needs no data module.

    Args:
        config: Configuration of the mapping.
        table: Label table. Its latents are the regression targets, and its nearest cell decides the accuracy.
        encoder: Frozen text encoder. Not a submodule, so checkpoints do not contain it.
        max_steps: Number of training steps, for the learning rate schedule.
        steps_per_epoch: Batches per epoch.
        seed: Seed of the phrases, the weights and the order.
    """

    def __init__(
        self,
        config: EmotionModelConfig,
        table: EmotionTable,
        encoder: TextEncoder,
        max_steps: int,
        steps_per_epoch: int,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config = config
        self.table = table
        self.encoder = encoder
        self.max_steps = max_steps
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self._validated = ValidationMeans()
        self.phrases = self._written(training_phrases(table.cells, seed))
        features = encoder([phrase.text for phrase in self.phrases])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mapping = TextMapping(encoder.width, table.latents.shape[-1], config.hidden, config.dropout)
        self.mapping.fit_scales(features, table.mean, table.std)
        self._training = TensorDataset(features, _cells(table, self.phrases))
        self._cells: Tensor
        self.register_buffer("_cells", table.standardise(table.latents), persistent=False)

    def train_dataloader(self) -> DataLoader[Any]:
        """Phrases in random order; every phrase is used once before any is repeated."""
        sampler = RandomSampler(
            self._training,
            num_samples=self.steps_per_epoch * self.config.batch_size,
            generator=torch.Generator().manual_seed(self.seed),
        )
        return DataLoader(self._training, self.config.batch_size, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """Phrases in held-out sentence frames."""
        phrases = self._written(held_out_phrases(self.table.cells, self.seed))
        features = self.encoder([phrase.text for phrase in phrases])
        return DataLoader(TensorDataset(features, _cells(self.table, phrases)), self.config.batch_size)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Loss of text features (B, D_t) and indices (B,) of their cells in the table."""
        features, cell = batch
        predicted = self.mapping(features)
        loss = mapping_loss(predicted, self._cells[cell]) + cell_loss(predicted, self._cells, cell)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Computes the accuracy on features (B, D_t) and indices (B,) of their cells in the table.

        Encodes all words but filler. ``TextEmotion`` scores higher: it skips words unknown to an n-gram encoder.
        """
        features, cell = batch
        found = self.table.nearest(self.mapping.latent(features).float().cpu())
        right = [one[0] == self.table.cells[place][0] for one, place in zip(found, cell.tolist(), strict=True)]
        self._validated.add({"emotion": torch.tensor(right)}, torch.ones(len(right), dtype=torch.bool))

    def on_validation_epoch_end(self) -> None:
        """Logs the mean over all texts as ``val/emotion``."""
        self._validated.log(self, prog_bar=True)

    def configure_optimizers(self) -> Any:
        """AdamW with cosine decay to zero, updated every step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Writes the files that generation loads; skipped in a ``fast_dev_run``."""
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", False):
            report = self.write(Path(self.trainer.default_root_dir))
            log.info("emotion by text: %s", asdict(report))

    def _written(self, phrases: list[Phrase]) -> list[Phrase]:
        """The phrases as the encoder is trained on them: without filler if it is not pretrained."""
        return phrases if self.encoder.pretrained else reduced_phrases(phrases)

    def emotion(self) -> TextEmotion:
        """A frozen copy of the mapping, with its encoder, for inference."""
        trained = TextMapping(self.encoder.width, self.table.latents.shape[-1], self.config.hidden)
        trained.load_state_dict(self.mapping.state_dict())
        vocabulary = {word for phrase in self.phrases for word in words_of(phrase.text)}
        if not self.encoder.pretrained:
            vocabulary -= filler_words()  # of entries that have no other words
        return TextEmotion(trained, self.encoder, sorted(vocabulary), self.table.motion)

    def write(self, folder: Path) -> EmotionReport:
        """Writes table, mapping and report into ``folder`` and returns the report."""
        emotion = self.emotion()
        self.table.save(folder / TABLE_FILE)
        emotion.save(folder / TEXT_FILE)
        frames, levels = accuracy(emotion, self.table, held_out_phrases(self.table.cells, self.seed))
        written, _ = accuracy(emotion, self.table, paraphrases(self.table.cells))
        _, written_levels = accuracy(emotion, self.table, levelled_paraphrases(self.table.cells))
        clips = zip(self.table.cells, self.table.clips, strict=True)
        report = EmotionReport(
            clips={f"{name} {level}": count for (name, level), count in clips},
            phrases=len(self.phrases),
            frames_emotion=frames,
            frames_level=levels,
            paraphrases_emotion=written,
            paraphrases_level=written_levels,
        )
        (folder / REPORT_FILE).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        return report


def build_emotion(
    config: EmotionModelConfig, data: ShardDataModule, max_steps: int, seed: int = 0, device: str = "cpu"
) -> EmotionModule:
    """Builds the module from the training clips of a data module.

    Args:
        config: Configuration of the mapping.
        data: Labelled shards, set up or not. Of its configuration only ``steps_per_epoch`` is read.
        max_steps: Number of training steps.
        seed: Seed of the phrases, the weights and the order.
        device: Device of the frozen text encoder.

    Raises:
        ShardError: If the shards cannot be used.
        EmotionError: If no training clip has an emotion label, or a latent is not finite.
        MissingWeights: If the text encoder's weights are not found.
    """
    table = learn_table(data)
    log.info("label table computed from %d clips: %s", sum(table.clips), table.describe())
    encoder = build_text_encoder(config.text.name, device, **config.text.options)
    return EmotionModule(config, table, encoder, max_steps, data.config.steps_per_epoch, seed)


def accuracy(emotion: TextEmotion, table: EmotionTable, phrases: Sequence[Phrase]) -> tuple[float, float]:
    """Accuracy of the nearest cell, 0 to 1: of its emotion, and of its emotion and level together.

    A rejected text counts as wrong.
    """
    right = exact = 0
    for text, wanted, level in phrases:
        try:
            found = table.nearest(emotion(text)[0][None])[0]
        except TextError:
            continue
        right += found[0] == wanted
        exact += found == (wanted, level)
    return right / max(len(phrases), 1), exact / max(len(phrases), 1)


def _cells(table: EmotionTable, phrases: Sequence[Phrase]) -> Tensor:
    """(N,) index of each phrase's cell in the table."""
    return torch.tensor([table.cells.index((phrase.emotion, phrase.level)) for phrase in phrases])
