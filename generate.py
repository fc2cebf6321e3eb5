"""Generates talking-head videos from a portrait, speech and an emotion: ``python generate.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.generation import GenerateConfig


def generate(config: GenerateConfig) -> int:
    """Generates one video or a batch and returns the exit status."""
    from generation.generate_videos import (
        generate_videos,  # late: errors in the configuration are reported before torch is loaded
    )

    return generate_videos(config)


if __name__ == "__main__":
    run("generate", GenerateConfig, generate)
