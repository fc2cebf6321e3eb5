"""Local CSV log, logging of images, videos and tables, and the progress bar."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from runtime.files import whole_file
from runtime.platforms import sync

Row = dict[str, str]
STEP = "trainer/global_step"  # x axis of Lightning's W&B logger


class CsvLog(Logger):
    """Logger that writes rows of ``csv/metrics.csv`` immediately, on rank 0.

    Args:
        folder: Run directory.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "csv" / "metrics.csv"
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """Empty: a run has one log."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the run directory contains the configuration."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Appends a row; new names add columns."""
        row = {"step": "" if step is None else str(step), **{name: str(float(v)) for name, v in metrics.items()}}
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():
            self._rewrite([*self._read(), row], sorted({*self._columns, *new}))
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Flushes the rows to disk."""
        if self.path.exists():
            sync(self.path)

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Removes rows that were written after the checkpoint of ``step``.

        At step 0 a new run begins, and an existing log is renamed. A training row has the number of steps before its
        batch. A validation row has the number of the batch before it and is removed too, because a validation follows
        its checkpoint and a resumed run repeats it.
        """
        rows = self._read()
        if step == 0 and rows:
            number = 1 + len(list(self.path.parent.glob("metrics-*.csv")))
            os.replace(self.path, self.path.with_name(f"metrics-{number}.csv"))
            self._columns = []
        elif rows:
            self._rewrite([row for row in rows if _before(row, step)], self._columns)

    def has_validation(self, step: int) -> bool:
        """Whether a row of the validation after ``step`` steps was written."""
        return any(_validated(row) and row["step"] == str(step - 1) for row in self._read())

    def _read(self) -> list[Row]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            self._columns = list(reader.fieldnames or [])
        return rows

    def _rewrite(self, rows: Iterable[Row], columns: list[str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self.path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        self._columns = columns


def _before(row: Row, step: int) -> bool:
    """Whether a row was written before the checkpoint of ``step``."""
    if not row["step"]:
        return True
    return int(row["step"]) < step - _validated(row)


def _validated(row: Row) -> bool:
    """Whether a row was written by a validation."""
    return any(value for name, value in row.items() if name.startswith("val/"))


def show_picture(trainer: Trainer, name: str, path: Path) -> None:
    """Logs an image file to W&B and TensorBoard."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], trainer.global_step)
        elif isinstance(logger, TensorBoardLogger):
            picture = np.asarray(Image.open(path).convert("RGB"))
            logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")


def show_video(trainer: Trainer, name: str, path: Path) -> None:
    """Logs an mp4 file with sound to W&B. TensorBoard does not support it."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_video(name, [str(path)], trainer.global_step, format=["mp4"])


def show_table(trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Logs a table; cells of type ``Path`` are videos."""
    log_table(trainer.loggers, name, columns, rows, trainer.global_step)


def log_table(
    loggers: Iterable[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[object]], step: int
) -> None:
    """Logs a table to W&B and TensorBoard; cells of type ``Path`` are videos."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            cells = [[wandb.Video(str(cell), format="mp4") if isinstance(cell, Path) else cell for cell in row]
                     for row in rows]  # fmt: skip
            logger.experiment.log({name: wandb.Table(list(columns), cells), STEP: step})
        elif isinstance(logger, TensorBoardLogger):
            lines = [list(columns), ["---"] * len(columns), *([_plain(cell) for cell in row] for row in rows)]
            text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
            logger.experiment.add_text(name, text, step)


def _plain(cell: object) -> str:
    if isinstance(cell, Path):
        return cell.name
    return f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell)


class ProgressBar(RichProgressBar):
    """Progress bar with the number of epochs. Lightning's shows ``Epoch 0/-2`` if only the steps are limited."""

    def _get_train_description(self, current_epoch: int) -> str:
        trainer = self.trainer
        epochs = max(current_epoch + 1, math.ceil(trainer.max_steps / trainer.num_training_batches))
        return f"{f'Epoch {current_epoch + 1}/{epochs}':{len(self.validation_description)}}"
