"""Clips by a published system, ready to be compared: ``python -m benchmark.run_system --help``."""

from __future__ import annotations

import signal

from configs.command_line import run
from configs.systems import RunSystemConfig


def make_videos(config: RunSystemConfig) -> int:
    """Makes all clips and returns the exit status."""
    from benchmark.runner import run_system  # after the checks: what is wrong is said before torch is loaded

    return run_system(config)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's end is Ctrl-C: programs at work end too
    run("systems", RunSystemConfig, make_videos)
