"""Generates clips with a published system and normalises them: ``python -m benchmark.run_system --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.systems import RunSystemConfig


def make_videos(config: RunSystemConfig) -> int:
    """Generates all clips and returns the exit status."""
    from benchmark.runner import run_system  # late: errors in the configuration are reported before torch is loaded

    return run_system(config)


if __name__ == "__main__":
    run("systems", RunSystemConfig, make_videos)
