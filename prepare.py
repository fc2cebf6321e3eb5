"""Prepares training shards from raw videos: ``python prepare.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.preparation import PrepareConfig


def prepare(config: PrepareConfig) -> int:
    """Runs one task of preparation and returns the exit status."""
    from preparation.tasks import TASKS  # imported here so that configuration errors appear before torch is loaded

    return TASKS[config.task](config)


if __name__ == "__main__":
    run("prepare", PrepareConfig, prepare)
