"""Base class of training stages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from configs.training import NO_INIT, TrainConfig
from runtime.devices import resolve_device

if TYPE_CHECKING:  # the configuration is checked before Lightning is imported
    from lightning.pytorch import Callback, LightningModule

    from datamodules.datamodule import ShardDataModule


class Stage:
    """Base class of stages. A stage outside of this repository is configured as ``stage=module.Class``.

    Attributes:
        name: Name in configurations and checkpoints; runs are written to ``output/NAME``.
        config: Dataclass of ``model``.
        needs: Fields that every batch must have.
        bfloat16: Whether it can be trained with bfloat16 weights.
        videos: Whether it supports ``videos``: samples and metrics of validation clips.
        own_loaders: Whether the module has its own loaders; otherwise batches are read from the shards.
        starts_from_runs: Whether ``init`` may name a trained run or an export.
        starts_from_svd: Whether ``init=svd`` is possible.
        compiles: Whether ``trainer.compile`` is possible.
        accumulates: Whether its training step accepts a list of micro-batches, see
            ``lightning_modules.accumulation``. Set it only if the gradients are those of one pass over all clips.
    """

    name: ClassVar[str]
    config: ClassVar[type]
    needs: ClassVar[tuple[str, ...]] = ()
    bfloat16: ClassVar[bool] = False
    videos: ClassVar[bool] = False
    own_loaders: ClassVar[bool] = False
    starts_from_runs: ClassVar[bool] = False
    starts_from_svd: ClassVar[bool] = False
    compiles: ClassVar[bool] = False
    accumulates: ClassVar[bool] = False

    @classmethod
    def fields(cls, model: Any) -> Sequence[str]:
        """Fields that every batch must have for this configuration of ``model``."""
        return cls.needs

    @classmethod
    def narrow(cls, model: Any) -> Any:
        """The same configuration with a network that trains on a CPU core within seconds, for a rehearsal."""
        return model

    def open_init(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> tuple[TrainConfig, str]:
        """Opens what ``config.init`` names, for a rehearsal whose narrow network cannot hold its weights.

        Args:
            config: Configuration of the run to rehearse.
            data: Its data.
            folder: Run directory of the rehearsal.

        Returns:
            The configuration that starts without these weights, and what was found.

        Raises:
            UserError: If it is missing, damaged, of another stage or of other encoders.
        """
        return replace(config, init=NO_INIT), f"{config.init}: not opened by stage {config.stage}"

    @classmethod
    def narrow_encoders(cls) -> None:
        """Replaces large encoders that a training uses by narrow ones, in a process of a rehearsal."""

    def try_encoders(self, config: TrainConfig, data: ShardDataModule) -> Iterator[tuple[str, Callable[[], str]]]:
        """Builds the encoders that a training uses on this machine, for a rehearsal whose ranks have narrow ones.

        Args:
            config: Configuration of the run to rehearse.
            data: Its data.

        Yields:
            Kind of an encoder, and a function that builds it and returns what was seen. The function raises
            ``UserError`` if weights are missing or are not those of the shards.
        """
        yield from ()

    def use_rehearsed(
        self, folder: Path, data: ShardDataModule, frames: int
    ) -> Iterator[tuple[str, Callable[[], str]]]:
        """Uses a rehearsed run as the real one will be used.

        Args:
            folder: Run directory.
            data: Its data.
            frames: Maximum number of frames to generate.

        Yields:
            Name of a part, and a function that tries it and returns what was seen.
        """
        yield from ()

    def build(self, config: TrainConfig, data: ShardDataModule) -> LightningModule:
        """Builds an untrained module for the data."""
        raise NotImplementedError

    def start(self, module: Any, config: TrainConfig) -> tuple[Path, str] | None:
        """Initialises the module of a new run as ``config.init`` says; not called when a run is resumed.

        Returns:
            The file of the weights, and a table of what was taken, for ``init.txt``; None for random weights.
        """
        return None

    def keep(self, folder: Path) -> None:
        """Writes what the run needs in addition to its checkpoints into the run directory. Called on the first rank."""

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Callbacks of the stage."""
        return []

    def step_bytes(self, module: Any, config: TrainConfig, ranks: int) -> float | None:
        """Bytes of GPU memory that a step needs on each of ``ranks`` ranks; None if unknown."""
        return None


def device_of(config: TrainConfig) -> str:
    """Device of this process for networks that are used before Lightning has assigned it: with its index, if a GPU."""
    found = resolve_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
    if found != "cuda":
        return found
    devices = config.trainer.devices
    place = int(os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID") or 0)
    listed = [] if devices == "auto" or devices.isdecimal() else [int(name) for name in devices.split(",") if name]
    return f"cuda:{listed[place] if place < len(listed) and listed != [-1] else place}"
