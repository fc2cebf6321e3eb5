"""Stage 1: V-AID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.models import LipConfig, VAIDConfig
from configs.registries import ENCODERS
from configs.training import NO_INIT, TrainConfig
from encoders.protocols import Identity
from training.stages.stage import Stage

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from callbacks.latent_plots import Names
    from datamodules.datamodule import ShardDataModule
    from lightning_modules.vaid.module import VAIDModule


class VAIDStage(Stage):
    """Trains the prediction of lip and expression latents from speech."""

    name = "vaid"
    config = VAIDConfig
    needs = ("audio", "lip", "expression", "portraits")
    accumulates = True
    starts_from_runs = True

    @classmethod
    def narrow(cls, model: VAIDConfig) -> VAIDConfig:
        """One block of 16 channels in each network, and CLUB from the second step on."""
        return replace(
            model,
            lip=LipConfig(width=16, depth=1, latents=model.lip.latents, head_width=8),
            expression=replace(
                model.expression, width=16, depth=1, head_width=8, identity_widths=[8], identity_size=16
            ),
            club=replace(model.club, hidden=16, warmup=min(model.club.warmup, 1)),
            sampling_steps=2,
        )

    def open_init(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> tuple[TrainConfig, str]:
        """Reads the V-AID of ``init=RUN`` and compares its encoders with those of the data."""
        from lightning_modules.checkpoints import check_encoders
        from lightning_modules.vaid.checkpoint import ENCODER_KINDS
        from lightning_modules.vaid.initial import trained_vaid

        trained = trained_vaid(config.init)
        kinds = {kind: data.index.encoders[kind] for kind in ENCODER_KINDS}
        check_encoders(trained.encoders, kinds, f"init={config.init}")
        return replace(config, init=NO_INIT), f"{trained.path}: stage and encoders agree; weights not loaded"

    def use_rehearsed(
        self, folder: Path, data: ShardDataModule, frames: int
    ) -> Iterator[tuple[str, Callable[[], str]]]:
        """Loads the V-AID as stage ethd does."""
        from lightning_modules.checkpoints import checkpoint_file
        from lightning_modules.vaid.checkpoint import load_vaid

        def load() -> str:
            load_vaid(checkpoint_file(folder), data.index.encoders)
            return f"as the V-AID of stage ethd: vaid={folder}"

        yield "loaded", load

    def build(self, config: TrainConfig, data: ShardDataModule) -> VAIDModule:
        """Builds an untrained V-AID with the statistics of the training clips.

        With ``init=RUN`` the statistics are those of that run, because its weights are in their units, and so are those
        of every ETHD that was trained with it. A resumed run has those of its checkpoint.
        """
        from lightning_modules.vaid.module import VAIDModule
        from lightning_modules.vaid.statistics import motion_statistics
        from training.resume import resume_path, run_folder

        module = VAIDModule(config.model, data.dimensions, data.index.encoders, config.trainer.max_steps, config.seed)
        if config.init != NO_INIT or resume_path(config, run_folder(config)) is not None:
            return module
        motions = ((f"{clip.entry.shard}: {clip.key}", lip, expression) for clip, lip, expression in data.motions())
        module.vaid.set_statistics(motion_statistics(motions))
        return module

    def start(self, module: VAIDModule, config: TrainConfig) -> tuple[Path, str] | None:
        """Takes the weights and statistics of ``init=RUN``.

        Raises:
            CheckpointError: If the run is missing, damaged, of another stage, of other encoders or of other widths.
        """
        if config.init == NO_INIT:
            return None
        from lightning_modules.checkpoints import check_encoders
        from lightning_modules.initial import take_weights
        from lightning_modules.vaid.initial import trained_vaid

        trained = trained_vaid(config.init)
        check_encoders(trained.encoders, module.encoders, f"init={config.init}")
        taken = take_weights(module, trained.weights, f"init={config.init}")
        return trained.path, taken.table()

    def callbacks(self, config: TrainConfig, data: ShardDataModule, folder: Path) -> list[Callback]:
        """Average of Di-CTE's weights, plots of latents, and training speed."""
        from callbacks.ema import WeightAverage
        from callbacks.latent_plots import LatentPlots
        from callbacks.throughput import Throughput

        average = [WeightAverage(config.model.ema)] if config.model.ema else []
        return [*average, LatentPlots(folder, latent_names(data.index.encoders["motion"])), Throughput()]


def latent_names(motion: Identity) -> Names | None:
    """Names of the dimensions of lip and expression latents; None if the motion encoder does not define them."""
    if motion.name not in ENCODERS["motion"]:
        return None
    encoder = ENCODERS["motion"].get(motion.name)
    return encoder.latent_names(**motion.options) if hasattr(encoder, "latent_names") else None
