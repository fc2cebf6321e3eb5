"""Pictures, videos with sound and tables to every logger that can show them; for the others they stay files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from PIL import Image

STEP = "trainer/global_step"  # the axis Lightning's logger puts everything on


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
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            cells = [[wandb.Video(str(cell), format="mp4") if isinstance(cell, Path) else cell for cell in row]
                     for row in rows]  # fmt: skip
            logger.experiment.log({name: wandb.Table(list(columns), cells), STEP: trainer.global_step})
        elif isinstance(logger, TensorBoardLogger):
            lines = [list(columns), ["---"] * len(columns), *([_plain(cell) for cell in row] for row in rows)]
            text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
            logger.experiment.add_text(name, text, trainer.global_step)


def _plain(cell: object) -> str:
    if isinstance(cell, Path):
        return cell.name
    return f"{cell:.4g}" if isinstance(cell, float) else "" if cell is None else str(cell)
