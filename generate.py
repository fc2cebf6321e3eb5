"""A talking video from a portrait and speech: ``python generate.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.generation import GenerateConfig


def generate(config: GenerateConfig) -> int:
    """Makes one video or a batch of them and returns the exit status."""
    from generation.generate_videos import (
        generate_videos,  # after the checks: what is wrong is said before torch is loaded
    )

    return generate_videos(config)


if __name__ == "__main__":
    run("generate", GenerateConfig, generate)
