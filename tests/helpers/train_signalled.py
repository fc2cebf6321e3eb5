"""Trains with a signal to one rank at a chosen moment.

    python tests/helpers/train_signalled.py RANK MOMENT SIGNAL OVERRIDE...

MOMENT is step:N (in the N-th training step), validation, save, or never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.helpers.train_config import train_config


def signal_at(rank: int, moment: str, number: str) -> None:
    """Patches what runs at the moment so that it signals this process once, on one rank."""
    from lightning.pytorch import LightningModule, Trainer

    from lightning_modules.ethd.module import EthdModule
    from lightning_modules.vaid.module import VAIDModule

    kind, _, place = moment.partition(":")
    fired = []

    def fire(trainer) -> None:
        if trainer.global_rank == rank and not fired and (not place or trainer.global_step == int(place)):
            fired.append(True)
            os.kill(os.getpid(), signal.Signals[number])

    owners = {"step": "training_step", "validation": "validation_step"}
    if kind in owners:
        for module in (VAIDModule, EthdModule):
            original = getattr(module, owners[kind])

            def patched(self: LightningModule, *rest, original=original, **names):
                fire(self.trainer)
                return original(self, *rest, **names)

            setattr(module, owners[kind], patched)
    elif kind == "save":
        dump = Trainer.save_checkpoint

        def saving(self: Trainer, *rest, **names):
            fire(self)
            return dump(self, *rest, **names)

        Trainer.save_checkpoint = saving


if __name__ == "__main__":
    rank, moment, number, *overrides = sys.argv[1:]
    from training.fit import exit_status, fit

    signal_at(int(rank), moment, number)
    sys.exit(exit_status(fit(train_config(*overrides))))
