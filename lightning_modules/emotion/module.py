"""The emotion experiment: learns the label table from shards, then the text mapping on top of it.

Both end as safetensors files in the run's folder. Shapes: N phrases, B of a batch, D_t text width, d_e expression
width.
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
from lightning_modules.emotion.phrases import Phrase, held_out_phrases, paraphrases, training_phrases
from lightning_modules.emotion.text_mapping import TEXT_FILE, TextEmotion, TextMapping, mapping_loss

log = logging.getLogger(__name__)

REPORT_FILE = "emotion_report.json"


@dataclass(frozen=True)
class EmotionReport:
    """What the experiment gave; written as JSON beside its files. A text that the mapping refuses counts as wrong.

    Attributes:
        clips: emotion and level -> training clips behind it.
        phrases: how many texts were trained on.
        frames_emotion: share of texts in held-out frames, of known words, whose nearest emotion is right.
        frames_level: share whose emotion and level are right.
        paraphrases_emotion: share of the hand-written texts whose nearest emotion is right.
    """

    clips: dict[str, int]
    phrases: int
    frames_emotion: float
    frames_level: float
    paraphrases_emotion: float


class EmotionModule(LightningModule):
    """Fits a ``TextMapping``, and at the end writes table, mapping and report into the run's folder.

    It brings its own loaders, so ``Trainer.fit`` takes no data. An epoch has ``steps_per_epoch`` batches.

    Args:
        config: of the mapping.
        table: what texts are mapped to, and what their accuracy is judged by.
        encoder: the frozen text encoder; not registered, so that no checkpoint holds it.
        max_steps: length of the run, for the learning rate.
        steps_per_epoch: batches between two passes of validation at most.
        seed: of phrases, weights and order.
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
        self.phrases = training_phrases(table.cells, seed)
        features = encoder([phrase.text for phrase in self.phrases])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mapping = TextMapping(encoder.width, table.latents.shape[-1], config.hidden, config.dropout)
        self.mapping.fit_scales(features, table.mean, table.std)
        targets = table.standardise(table.latents)[_cells(table, self.phrases)]
        self._training = TensorDataset(features, targets)

    def train_dataloader(self) -> DataLoader[Any]:
        """Every phrase once before any comes again, in random order."""
        sampler = RandomSampler(
            self._training,
            num_samples=self.steps_per_epoch * self.config.batch_size,
            generator=torch.Generator().manual_seed(self.seed),
        )
        return DataLoader(self._training, self.config.batch_size, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any]:
        """The phrases in held-out frames."""
        phrases = held_out_phrases(self.table.cells, self.seed)
        features = self.encoder([phrase.text for phrase in phrases])
        return DataLoader(TensorDataset(features, _cells(self.table, phrases)), self.config.batch_size)

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Loss of text features (B, D_t) and standardised targets (B, d_e)."""
        features, target = batch
        loss = mapping_loss(self.mapping(features), target)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Accuracy on features (B, D_t) whose cells (B,) are numbered as in the table.

        The texts are read whole here; ``TextEmotion`` passes over words an n-gram encoder never saw, and does better.
        """
        features, cell = batch
        found = self.table.nearest(self.mapping.latent(features).float().cpu())
        right = [one[0] == self.table.cells[place][0] for one, place in zip(found, cell.tolist(), strict=True)]
        self.log("val/emotion", sum(right) / len(right), prog_bar=True, on_epoch=True, batch_size=len(right))

    def configure_optimizers(self) -> Any:
        """AdamW with the rate falling to zero along a cosine, step by step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_end(self) -> None:
        """Writes the files that generation loads, unless this was a trial step."""
        if self.trainer.is_global_zero and not getattr(self.trainer, "fast_dev_run", False):
            report = self.write(Path(self.trainer.default_root_dir))
            log.info("emotion by text: %s", asdict(report))

    def emotion(self) -> TextEmotion:
        """The mapping as it is now, with its encoder, for use."""
        trained = TextMapping(self.encoder.width, self.table.latents.shape[-1], self.config.hidden)
        trained.load_state_dict(self.mapping.state_dict())
        vocabulary = {word for phrase in self.phrases for word in words_of(phrase.text)}
        return TextEmotion(trained, self.encoder, sorted(vocabulary), self.table.motion)

    def write(self, folder: Path) -> EmotionReport:
        """Writes table, mapping and report into a folder."""
        emotion = self.emotion()
        self.table.save(folder / TABLE_FILE)
        emotion.save(folder / TEXT_FILE)
        frames, levels = accuracy(emotion, self.table, held_out_phrases(self.table.cells, self.seed))
        written, _ = accuracy(emotion, self.table, paraphrases(self.table.cells))
        clips = zip(self.table.cells, self.table.clips, strict=True)
        report = EmotionReport(
            clips={f"{name} {level}": count for (name, level), count in clips},
            phrases=len(self.phrases),
            frames_emotion=frames,
            frames_level=levels,
            paraphrases_emotion=written,
        )
        (folder / REPORT_FILE).write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")
        return report


def build_emotion(
    config: EmotionModelConfig, data: ShardDataModule, max_steps: int, seed: int = 0, device: str = "cpu"
) -> EmotionModule:
    """The experiment on a datamodule's training clips.

    Args:
        config: of the mapping.
        data: labelled shards, set up or not; only ``steps_per_epoch`` of its configuration counts besides the clips.
        max_steps: length of the run.
        seed: of phrases, weights and order.
        device: where the frozen text encoder runs.

    Raises:
        ShardError: when the shards cannot be used.
        EmotionError: when no training clip has an emotion, or a latent is not finite.
        MissingWeights: when the text encoder's weights are nowhere.
    """
    table = learn_table(data)
    log.info("emotions learned from %d clips: %s", sum(table.clips), table.describe())
    encoder = build_text_encoder(config.text.name, device, **config.text.options)
    return EmotionModule(config, table, encoder, max_steps, data.config.steps_per_epoch, seed)


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
    return right / max(len(phrases), 1), exact / max(len(phrases), 1)


def _cells(table: EmotionTable, phrases: Sequence[Phrase]) -> Tensor:
    """(N,) the table's cell of every phrase."""
    return torch.tensor([table.cells.index((phrase.emotion, phrase.level)) for phrase in phrases])
