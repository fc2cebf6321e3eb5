"""A run's log from its first step to its last: what the run was made from, and every step once.

A killed run resumes from its last checkpoint and does the steps after it again; their first account is taken back.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from media.whole_file import whole_file


class RunLog(Callback):
    """Hands the run's provenance to its logger, and takes back what a resumed run will log again.

    W&B has no way back: steps between the last checkpoint and a kill stand twice in it, and its plots by
    ``trainer/global_step`` lie over each other, since the second account equals the first.

    Args:
        record: makes the provenance; called on the first process only.
    """

    def __init__(self, record: Callable[[], dict[str, Any]]) -> None:
        self.record = record

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Acts on the first process, when the step to go on from is known."""
        if not trainer.is_global_zero:
            return
        record = self.record()
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                own = Path(logger.log_dir)
                for table in sorted(own.parent.glob("csv*/metrics.csv")):
                    if table.parent != own:
                        forget(table, trainer.global_step)
            elif isinstance(logger, TensorBoardLogger) and trainer.global_step:
                _restart_tensorboard(logger, trainer.global_step)
            logger.log_hyperparams(record)


def forget(table: Path, step: int) -> int:
    """Takes the rows out of a CSV log that a run resumed at ``step`` writes again; returns how many.

    Training step k is logged under k, when k steps were done before it; speed and validation after k steps also under
    k, and those at the checkpoint itself are not repeated.
    """
    with table.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names, rows = list(reader.fieldnames or ()), list(reader)

    def stays(row: dict[str, str]) -> bool:
        done = int(row["step"])
        return done < step or (done == step and not any(row[name] for name in names if name.startswith("train/")))

    kept = [row for row in rows if stays(row)]
    if len(kept) < len(rows):
        with whole_file(table) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(kept)
    return len(rows) - len(kept)


def _restart_tensorboard(logger: TensorBoardLogger, step: int) -> None:
    """Tells TensorBoard to drop what was logged from ``step`` on."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
    logger.experiment._get_file_writer().add_event(start, step=step)
