"""What a run was made from, with every start of it, in the run directory and in its logger."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

STARTS = "starts.jsonl"


class RunLog(Callback):
    """Hands a run's provenance to its logger, and adds a line for this start to ``starts.jsonl``.

    A killed run does the steps after its checkpoint again. TensorBoard is told to drop their first account, as the
    local table does. W&B has no way back: they stand twice in it, and since the second account equals the first, its
    plots by ``trainer/global_step`` lie over each other.

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
        start = {"step": trainer.global_step, "time": datetime.now(UTC).isoformat(timespec="seconds"), **record}
        with (Path(trainer.default_root_dir) / STARTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(start) + "\n")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.global_step:
                _restart_tensorboard(logger, trainer.global_step)
            logger.log_hyperparams(record)


def _restart_tensorboard(logger: TensorBoardLogger, step: int) -> None:
    """Tells TensorBoard to drop what was logged from ``step`` on."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step, session_log=SessionLog(status=SessionLog.START))
    logger.experiment._get_file_writer().add_event(start, step=step)
