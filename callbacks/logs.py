"""What a run writes down: logged values as a table, pictures and videos, and its progress bar."""

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

Row = dict[str, str]
STEP = "trainer/global_step"  # the axis Lightning's logger puts everything on


class CsvLog(Logger):
    """Rows of ``csv/metrics.csv``: epoch, step, and what was logged together; written at once, by the first rank.

    Args:
        folder: run directory.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        self.path = Path(folder) / "csv" / "metrics.csv"
        self._columns: list[str] = []

    @property
    def name(self) -> str:
        """What Lightning calls it."""
        return "csv"

    @property
    def version(self) -> str:
        """There is only one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run directory has the configuration itself."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds a row."""
        row = {"step": "" if step is None else str(step), **{name: str(float(v)) for name, v in metrics.items()}}
        new = [name for name in row if name not in self._columns]
        if new or not self.path.exists():
            self._rewrite([*self._read(), row], sorted({*self._columns, *new}))
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow(row)

    @rank_zero_only
    def save(self) -> None:
        """Waits until the rows are on the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def cut(self, step: int) -> None:
        """Leaves the rows that led to the checkpoint after ``step`` steps; of a run that starts anew, none.

        A batch has the number of the steps before it. A validation is logged under the last batch before it, but after
        its checkpoint, and a resumed run does it again.
        """
        rows = self._read()
        if step == 0 and rows:
            number = 1 + len(list(self.path.parent.glob("metrics-*.csv")))
            os.replace(self.path, self.path.with_name(f"metrics-{number}.csv"))
            self._columns = []
        elif rows:
            self._rewrite([row for row in rows if _before(row, step)], self._columns)

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
    """Whether a row was written before the checkpoint after ``step`` steps took its name."""
    if not row["step"]:
        return True
    validated = any(value for name, value in row.items() if name.startswith("val/"))
    return int(row["step"]) < step - validated


def show_picture(trainer: Trainer, name: str, path: Path) -> None:
    """Shows a picture file."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [str(path)], trainer.global_step)
        elif isinstance(logger, TensorBoardLogger):
            picture = np.asarray(Image.open(path).convert("RGB"))
            logger.experiment.add_image(name, picture, trainer.global_step, dataformats="HWC")


def show_video(trainer: Trainer, name: str, path: Path) -> None:
    """Shows an mp4 file with its sound; TensorBoard shows no such thing."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_video(name, [str(path)], trainer.global_step, format=["mp4"])


def show_table(trainer: Trainer, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Shows a table; a ``Path`` in it is a video."""
    log_table(trainer.loggers, name, columns, rows, trainer.global_step)


def log_table(
    loggers: Iterable[Logger], name: str, columns: Sequence[str], rows: Sequence[Sequence[object]], step: int
) -> None:
    """Logs a table to the loggers that have tables; a ``Path`` in it is a video."""
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
    """Lightning's, which takes a training without a number of epochs for one of -1 and says so: ``Epoch 0/-2``."""

    def _get_train_description(self, current_epoch: int) -> str:
        trainer = self.trainer
        epochs = max(current_epoch + 1, math.ceil(trainer.max_steps / trainer.num_training_batches))
        return f"{f'Epoch {current_epoch + 1}/{epochs}':{len(self.validation_description)}}"
