"""A talking video from a portrait and speech: ``python generate.py --help``."""

from __future__ import annotations

from configs.command_line import run
from configs.generation import GenerateConfig
from configs.validate_generate import validate_generate


def generate(config: GenerateConfig) -> int:
    """Makes one video or a batch of them and returns the exit status."""
    validate_generate(config)
    from generation.generate_videos import (
        generate_videos,  # after the checks: what is wrong is said before torch is loaded
    )

    return generate_videos(config)


if __name__ == "__main__":
    run("generate", GenerateConfig, generate)
