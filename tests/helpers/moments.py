"""Runs a function once at a chosen moment of a training."""

from __future__ import annotations

from collections.abc import Callable


def at(moment: str, do: Callable[[], None]) -> None:
    """Calls ``do`` at step:N (in the N-th training step), validation, save, or never."""
    from lightning.pytorch import Trainer

    from lightning_modules.ethd.module import EthdModule
    from lightning_modules.vaid.module import VAIDModule

    kind, _, step = moment.partition(":")
    name = {"step": "training_step", "validation": "validation_step", "save": "save_checkpoint"}.get(kind)
    done = []

    def patch(owner: type) -> None:
        original = getattr(owner, name)

        def patched(self, *rest, **names):
            trainer = self if isinstance(self, Trainer) else self.trainer
            if not done and (not step or trainer.global_step == int(step)):
                done.append(True)
                do()
            return original(self, *rest, **names)

        setattr(owner, name, patched)

    for owner in () if name is None else (Trainer,) if kind == "save" else (VAIDModule, EthdModule):
        patch(owner)
