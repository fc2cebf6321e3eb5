"""Reads from the files of a run directory which W&B run it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from callbacks.run_log import STARTS
from configs.errors import ConfigError
from configs.loggers import PROJECT
from configs.stored import load_stored
from runtime.json_text import parse_json


@dataclass(frozen=True)
class WandbRun:
    """A run in W&B.

    Attributes:
        id: Id; the name of the run directory, except in a sweep of W&B.
        project: W&B project.
        entity: Owner of the project; None for the default of the W&B account.
        group: W&B group.
        offline: Value of ``logger.offline`` of the run.
    """

    id: str
    project: str
    entity: str | None = None
    group: str | None = None
    offline: bool | None = None


@dataclass(frozen=True)
class ScoredRun:
    """A training whose videos are scored.

    Attributes:
        folder: Run directory.
        stage: Trained stage.
        wandb: Its run in W&B; None if it was not logged to W&B.
    """

    folder: Path
    stage: str
    wandb: WandbRun | None

    def plain(self) -> dict[str, Any]:
        """Plain values for the configuration of a logger."""
        known = (
            {} if self.wandb is None else {key: value for key, value in asdict(self.wandb).items() if key != "offline"}
        )
        return {"run_id": self.folder.name, "stage": self.stage, **known}


def scored_run(folder: str | Path) -> ScoredRun:
    """Reads the run of a run directory.

    Raises:
        ConfigError: If the folder is not a run directory.
    """
    folder = Path(folder).absolute()
    try:
        config = OmegaConf.to_container(load_stored(folder / "config.yaml"))
    except (OSError, ValueError, OmegaConfBaseException):
        config = None
    if not isinstance(config, dict) or "stage" not in config:
        raise ConfigError(
            f"logger.run={folder}: no config.yaml of train.py in it; expected a run directory, e.g. outputs/ethd/first"
        )
    return ScoredRun(folder, str(config["stage"]), _wandb_run(folder, config))


def _wandb_run(folder: Path, config: Mapping[Any, Any]) -> WandbRun | None:
    settings = config.get("logger") or {}
    if settings.get("name") != "wandb" and "wandb" not in (settings.get("use") or {}):
        return None
    model = config.get("model") or {}
    known = _started(folder) or {"id": folder.name, "project": settings.get("project") or PROJECT}
    return WandbRun(
        **{"entity": settings.get("entity"), **known},
        group=settings.get("group") or paper_table(str(config["stage"]), model.get("variant")),
        offline=settings.get("offline"),
    )


def _started(folder: Path) -> dict[str, Any] | None:
    """W&B run of the last start. In a sweep of W&B, id and project differ from the configuration."""
    try:
        starts = [parse_json(line) for line in (folder / STARTS).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    return next((start["wandb"] for start in reversed(starts) if start.get("wandb")), None)


def paper_table(stage: str, variant: str | None) -> str:
    """W&B group of a run: the table of the paper it belongs to, or its stage."""
    if stage == "ethd":
        return "table1" if variant == "full" else "table2"
    return stage
