"""Something that is to happen once, at a chosen moment of a training."""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Trainer

from lightning_modules.ethd.module import EthdModule
from lightning_modules.vaid.module import VAIDModule

MODULES = (VAIDModule, EthdModule)
MOMENTS = {
    "step": ("training_step", MODULES),
    "validation": ("validation_step", MODULES),
    "save": ("save_checkpoint", (Trainer,)),
}


def at_moment(moment: str, act: Callable[[Trainer], None]) -> None:
    """Patches what begins at the moment, so that ``act`` comes before it: step:N, validation or save."""
    kind, _, step = moment.partition(":")
    name, owners = MOMENTS[kind]
    done = []

    def patch(owner: type) -> None:
        original = getattr(owner, name)

        def patched(self, *rest, **names):
            trainer = self if isinstance(self, Trainer) else self.trainer
            if not done and (not step or trainer.global_step == int(step)):
                done.append(True)
                act(trainer)
            return original(self, *rest, **names)

        setattr(owner, name, patched)

    for owner in owners:
        patch(owner)
