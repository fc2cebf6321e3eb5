"""Restores a resumed run to its checkpoint: stores its configuration, truncates the local log and validates if due."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loops.fit_loop import _FitLoop

from callbacks.logs import CsvLog


class Continuation(Callback):
    """Truncates the log to the checkpoint, and runs the validation of its step if the run ended before it.

    A checkpoint is written before the validation of the same step, so that a kill during a validation loses no steps.

    Args:
        validate_every: Steps between validations.
        restored: Called on the first rank once the checkpoint has been loaded.
    """

    def __init__(self, validate_every: int, restored: Callable[[], object] = lambda: None) -> None:
        self.validate_every = validate_every
        self.restored = restored

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Truncates the log, and validates if a validation is due at this step."""
        if trainer.is_global_zero:
            self.restored()
        step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, CsvLog):
                logger.cut(step)
        if step and step % self.validate_every == 0 and trainer.enable_validation:
            _validate(trainer)


class ContinuedLoop(_FitLoop):
    """Lightning's training loop, which also begins if all steps are done and their validation is not.

    Lightning returns at once from a run with all its steps, before ``on_train_start``.

    Args:
        trainer: Trainer whose loop it replaces.
        validate_every: Steps between validations.
    """

    def __init__(self, trainer: Trainer, validate_every: int) -> None:
        super().__init__(trainer, max_epochs=trainer.fit_loop.max_epochs)
        self.epoch_loop = trainer.fit_loop.epoch_loop
        self.validate_every = validate_every

    @property
    def skip(self) -> bool:
        """Whether there is nothing to train or to validate."""
        return super().skip and not self._lacks_validation()

    def _lacks_validation(self) -> bool:
        trainer = self.trainer
        step, logs = trainer.global_step, [log for log in trainer.loggers if isinstance(log, CsvLog)]
        if not (logs and step and step % self.validate_every == 0 and trainer.enable_validation):
            return False
        missing = trainer.is_global_zero and not any(log.has_validation(step) for log in logs)
        return bool(trainer.strategy.broadcast(missing))


def _validate(trainer: Trainer) -> None:
    """Runs the validation that follows the last batch, as Lightning's training loop does."""
    loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector
    trainer.validating = True
    first = connector._first_loop_iter
    loop.val_loop.restarting = False
    loop.val_loop.run()
    trainer.training = True
    connector._first_loop_iter = first
