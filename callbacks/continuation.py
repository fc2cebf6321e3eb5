"""Restores a resumed run to its checkpoint: cuts the local log back to it, and runs a validation that was due."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.logs import CsvLog


class Continuation(Callback):
    """Cuts the log back to the checkpoint, and validates where the run was stopped or killed before it did.

    A checkpoint is written before the validation of its step, so that nothing is lost in a long one.

    Args:
        validate_every: steps between validations.
    """

    def __init__(self, validate_every: int) -> None:
        self.validate_every = validate_every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Cuts the log, and validates if the step is one at which that is due."""
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.cut(step)
        if step and step % self.validate_every == 0 and trainer.enable_validation:
            _validate(trainer)


def _validate(trainer: Trainer) -> None:
    """The validation after the last batch, as Lightning's training loop does it."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    trainer.validating = True
    first = connector._first_loop_iter
    loop.val_loop.restarting = False
    loop.val_loop.run()
    trainer.training = True
    connector._first_loop_iter = first
