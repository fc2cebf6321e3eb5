"""Schemas of ``logger`` in ``train.py`` and ``evaluate.py``: loggers in addition to the local files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from configs.fields import choice, literal, registered, rule
from configs.registries import LOGGERS

PROJECT = "emotivetalk"


@dataclass
class LoggerConfig:
    """Loggers, and the keys of W&B.

    Attributes:
        use: Loggers in addition to the local files: name -> keyword arguments. ``logger=[tensorboard,wandb]`` fills it.
            Any other Lightning logger is an entry whose argument ``class`` is the dotted path of its class.
        project: W&B project; null for emotivetalk.
        entity: W&B user or team that owns the project; null for the default of the key.
        group: W&B group; null for the paper's table that the run belongs to.
        tags: W&B tags, in addition to the stage and the dataset.
        notes: W&B description of the run.
        offline: Keep W&B's data on disk, to be uploaded with ``wandb sync``. Null: offline if its server cannot be
            reached, as on most compute nodes.
        name: Earlier spelling of ``logger=NAME``; accepted until the next version.
    """

    use: dict[str, Any] = registered(LOGGERS, {})
    project: str | None = rule(
        None, re.compile(r"[^/\\#?%:]{1,128}").fullmatch, "1 to 128 characters, none of them / \\ # ? % :"
    )
    entity: str | None = rule(None, re.compile(r"[\w.-]+").fullmatch, "the name of a W&B user or team, without spaces")
    group: str | None = literal(None)
    tags: list[str] = rule([], lambda tag: 1 <= len(tag) <= 64, "a tag of 1 to 64 characters")
    notes: str | None = literal(None)
    offline: bool | None = None
    name: str | None = choice(None, "csv", "tensorboard", "wandb")

    @property
    def chosen(self) -> dict[str, dict[str, Any]]:
        """Name -> keyword arguments, for every logger in use."""
        chosen: dict[str, Any] = {}
        if self.name not in (None, "csv"):
            chosen[str(self.name)] = {}
        return {name: dict(arguments or {}) for name, arguments in (chosen | self.use).items()}


@dataclass
class ScoreLoggerConfig(LoggerConfig):
    """Loggers of scores and tables.

    Attributes:
        run: Run directory of the training whose videos are scored; the W&B job is linked to it. Null for none.
    """

    run: str | None = literal(None)
