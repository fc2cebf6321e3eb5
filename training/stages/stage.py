"""What a stage is: what it trains, on which data, with which callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from configs.training import TrainConfig
from runtime.devices import resolve_device

if TYPE_CHECKING:  # a stage is looked up, and its configuration checked, before Lightning is loaded
    from lightning.pytorch import Callback, LightningModule

    from datamodules.datamodule import ShardDataModule


class Stage:
    """Base of all stages; one of a lab's own is named ``stage=module.Class``.

    Attributes:
        name: in configurations and checkpoints; runs lie in ``output/NAME``.
        config: dataclass of ``model``.
        needs: members every batch must carry.
        bfloat16: whether it may be trained with bfloat16 weights.
        videos: whether ``videos`` shows and measures its validation clips.
        own_loaders: whether the module brings its loaders; else batches come from the shards.
    """

    name: ClassVar[str]
    config: ClassVar[type]
    needs: ClassVar[tuple[str, ...]] = ()
    bfloat16: ClassVar[bool] = False
    videos: ClassVar[bool] = False
    own_loaders: ClassVar[bool] = False

    @classmethod
    def fields(cls, model: Any) -> Sequence[str]:
        """Members every batch must carry for this configuration of ``model``."""
        return cls.needs

    def build(self, config: TrainConfig, data: ShardDataModule) -> LightningModule:
        """A new module for the data."""
        raise NotImplementedError

    def start(self, module: Any) -> None:
        """What happens to the module of a run that goes on from no checkpoint, e.g. pretrained weights are loaded."""

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Callbacks that belong to the stage."""
        return []

    def step_bytes(self, module: Any, config: TrainConfig, ranks: int) -> float | None:
        """Bytes of GPU memory a step needs on each of so many ranks; None where nobody counted."""
        return None


def device_of(config: TrainConfig) -> str:
    """Where frozen networks run beside the training."""
    return resolve_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
