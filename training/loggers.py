"""Loggers of losses, pictures and tables: the local CSV table, and any Lightning logger."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from callbacks.logs import CsvLog
from configs.errors import ConfigError
from configs.loggers import PROJECT, LoggerConfig
from configs.registries import LOGGERS
from configs.training import TrainConfig
from runtime.files import sha256_of
from training.wandb_mode import wandb_mode
from training.wandb_runs import paper_table, scored_run


def build_loggers(config: TrainConfig, folder: Path) -> list[Logger]:
    """Loggers of a configuration, and the local table. They use the run's id, so that a resumed run continues in them.

    Raises:
        ConfigError: If W&B must be online and its server cannot be reached or there is no key for it, or if a logger
            cannot be created with its arguments.
    """
    variant = getattr(config.model, "variant", None)
    job = {
        "id": folder.name,
        "project": config.logger.project or PROJECT,
        "entity": config.logger.entity,
        "group": config.logger.group or paper_table(config.stage, variant),
        "job_type": "train",
        "tags": [config.stage, config.data.name, *config.logger.tags],
    }
    return [*chosen_loggers(config.logger, folder, folder.name, job), CsvLog(folder)]


def chosen_loggers(config: LoggerConfig, folder: Path, name: str, job: Mapping[str, Any]) -> list[Logger]:
    """Loggers of ``logger.use``.

    Args:
        config: Configuration of the loggers.
        folder: Folder of the files that loggers write.
        name: Name of the run.
        job: Further arguments of the W&B run.

    Raises:
        ConfigError: If W&B must be online and its server cannot be reached or there is no key for it, or if a logger
            cannot be created with its arguments.
    """
    found: list[Logger] = []
    for key, arguments in config.chosen.items():
        if key == "wandb" and "class" not in arguments:
            found.append(_wandb(config, folder, name, job))
        elif key == "tensorboard" and "class" not in arguments:
            found.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        else:
            found.append(_by_class(key, arguments, {"save_dir": str(folder), "run_name": name}))
    return found


def _wandb(config: LoggerConfig, folder: Path, name: str, job: Mapping[str, Any]) -> WandbLogger:
    mode = wandb_mode(config)
    if os.environ.get("WANDB_SWEEP_ID"):  # the sweep's agent chooses these
        job = {key: value for key, value in job.items() if key not in ("id", "project", "entity")}
    return WandbLogger(name=name, notes=config.notes, save_dir=folder, offline=mode == "offline", mode=mode, **job)


def _by_class(key: str, arguments: Mapping[str, Any], usual: Mapping[str, Any]) -> Logger:
    """Creates a logger of any class. ``usual`` arguments are passed if the class has them and they are not given."""
    build = LOGGERS.get(arguments.get("class", key), f"logger.use.{key}.class")
    known = inspect.signature(build).parameters
    given = {name: value for name, value in arguments.items() if name != "class"}
    given |= {name: value for name, value in usual.items() if name in known and name not in given}
    try:
        inspect.signature(build).bind(**given)
        logger = build(**given)
    except Exception as error:  # of any kind, depending on the service
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"logger.use.{key}: {build.__name__} cannot be created ({reason}); its arguments are {', '.join(known)}"
        ) from error
    if not isinstance(logger, Logger):
        raise ConfigError(f"logger.use.{key}.class={build.__name__}: is not a logger of Lightning")
    return logger


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
    """Adds an export as an artifact to its W&B run; returns its place, or None for a run without W&B.

    Args:
        file: Exported file, in the folder ``export`` of the run directory.

    Raises:
        ConfigError: If W&B must be online and its server cannot be reached or there is no key for it.
    """
    folder = file.resolve().parents[1]
    try:
        run = scored_run(folder).wandb
    except ConfigError:
        return None
    if run is None:
        return None
    import wandb

    mode = wandb_mode(LoggerConfig(offline=run.offline))
    with wandb.init(
        id=run.id, project=run.project, entity=run.entity, dir=folder, resume="allow", mode=mode
    ) as experiment:
        artifact = wandb.Artifact(f"{folder.name}-export", type="model", metadata={"sha256": sha256_of(file)})
        artifact.add_file(str(file))
        experiment.log_artifact(artifact)
    return f"artifact {folder.name}-export of W&B project {run.project} ({mode})"
