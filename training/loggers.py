"""Where a run's losses, pictures and tables go: a local table, and TensorBoard or W&B behind the same interface."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from omegaconf import OmegaConf

from callbacks.logs import CsvLog
from configs.training import EthdConfig, LoggerConfig, TrainConfig
from runtime.files import sha256_of
from training.wandb_mode import wandb_mode


def build_loggers(config: TrainConfig, folder: Path) -> list[Logger]:
    """The logger a configuration names, bound to the run's id so that a resumed run goes on in it, and the local table.

    Raises:
        ConfigError: when W&B's server is wanted and there is no key for it, or it cannot be reached.
    """
    table = CsvLog(folder)
    if config.logger.name == "wandb":
        return [_wandb(config, folder), table]
    if config.logger.name == "tensorboard":
        return [TensorBoardLogger(folder, name="", version="tensorboard"), table]
    return [table]


def _wandb(config: TrainConfig, folder: Path) -> WandbLogger:
    mode = wandb_mode(config.logger)
    return WandbLogger(
        name=folder.name,
        id=folder.name,
        project=config.logger.project,
        group=config.logger.group or paper_table(config),
        job_type=config.stage,
        tags=[config.stage, config.data.name],
        save_dir=folder,
        offline=mode == "offline",
        mode=mode,
    )


def close_loggers(loggers: Sequence[Logger]) -> None:
    """Closes loggers that write in their own processes or threads. Ranks other than the first have none.

    If an error is being raised, the run is marked as failed in W&B.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger) and logger._experiment is not None:
            import wandb

            wandb.finish(exit_code=int(sys.exc_info()[0] is not None))
            logger._experiment = None
        elif isinstance(logger, TensorBoardLogger):
            logger.save()


def show_export(file: Path) -> str | None:
    """Adds an export as an artifact to its run in W&B; returns where it went, None for a run that is not in W&B.

    Args:
        file: in the folder ``export`` of the run directory.

    Raises:
        ConfigError: when W&B's server is wanted and there is no key for it, or it cannot be reached.
    """
    folder = file.resolve().parents[1]
    try:
        settings = OmegaConf.select(OmegaConf.load(folder / "config.yaml"), "logger")
    except OSError:
        return None
    if settings is None or settings.get("name") != "wandb":
        return None
    import wandb

    mode = wandb_mode(LoggerConfig(offline=settings.get("offline")))
    with wandb.init(id=folder.name, project=settings.project, dir=folder, resume="allow", mode=mode) as run:
        artifact = wandb.Artifact(f"{folder.name}-export", type="model", metadata={"sha256": sha256_of(file)})
        artifact.add_file(str(file))
        run.log_artifact(artifact)
    return f"artifact {folder.name}-export of W&B project {settings.project} ({mode})"


def paper_table(config: TrainConfig) -> str:
    """The table of the paper a run is made for, by which W&B groups it; the stage where it is for none."""
    if isinstance(config.model, EthdConfig):
        return "table1" if config.model.variant == "full" else "table2"
    return config.stage
