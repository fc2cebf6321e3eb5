"""The W&B run that a run directory belongs to, as its own files name it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from callbacks.run_log import STARTS
from configs.errors import ConfigError
from configs.loggers import PROJECT


@dataclass(frozen=True)
class WandbRun:
    """A run in W&B.

    Attributes:
        id: Its id, which is the name of the run directory except in a sweep of W&B.
        project: Its project.
        entity: Its owner; None for the default of the key.
        group: Its group.
        offline: What ``logger.offline`` was for it.
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
        folder: Its run directory.
        stage: What was trained.
        wandb: Its run in W&B; None where it is not in W&B.
    """

    folder: Path
    stage: str
    wandb: WandbRun | None

    def plain(self) -> dict[str, Any]:
        """As plain values, for a logger's configuration."""
        known = (
            {} if self.wandb is None else {key: value for key, value in asdict(self.wandb).items() if key != "offline"}
        )
        return {"run_id": self.folder.name, "stage": self.stage, **known}


def scored_run(folder: str | Path) -> ScoredRun:
    """Reads what a run directory holds of its run.

    Raises:
        ConfigError: for a folder that is not a run directory.
    """
    folder = Path(folder).absolute()
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
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
    """The run of the last start; W&B's own sweeps choose another id and project than the configuration."""
    try:
        starts = [json.loads(line) for line in (folder / STARTS).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError):
        return None
    return next((start["wandb"] for start in reversed(starts) if start.get("wandb")), None)


def paper_table(stage: str, variant: str | None) -> str:
    """The table of the paper a run is made for, by which W&B groups it; the stage where it is for none."""
    if stage == "ethd":
        return "table1" if variant == "full" else "table2"
    return stage
