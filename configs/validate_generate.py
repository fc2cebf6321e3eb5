"""Rules of ``generate.py``'s configuration that no single field can express."""

from __future__ import annotations

import math
from pathlib import Path

from configs.errors import ConfigError
from configs.generation import GenerateConfig
from configs.rules import parse_part

CHOICES = {
    "drive": ("both", "lips", "expression"),
    "emotion.extend": ("pingpong", "hold", "error"),
    "device": ("auto", "cpu", "cuda"),
    "landmarks": ("mediapipe", "sidecar"),
}
MAX_SEED = 2**63 - 1


def validate_generate(config: GenerateConfig) -> None:
    """Checks ``generate.py``'s configuration as a whole; what the rows of a batch hold is checked where they are read.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    check_choice("device", config.device)
    if config.landmarks is not None:
        check_choice("landmarks", config.landmarks)
    if config.output is None or not config.output:
        raise ConfigError("output is missing: name the video, e.g. output=out.mp4, or a folder")
    for key, value in (("face.scale", config.face.scale), ("face.box_scale", config.face.box_scale)):
        if not (math.isfinite(value) and value >= 1):
            raise ConfigError(f"{key}={value}: expected 1 or more, or the crop would cut the face")
    part = parse_part(config.part)
    if config.batch is None:
        for key in ("portrait", "speech"):
            if not getattr(config, key):
                raise ConfigError(f"{key} is missing: name a file, e.g. {key}={EXAMPLES[key]}, or batch=cases.csv")
        if part != (0, 1):
            raise ConfigError(f"part={config.part}: is a share of a batch; add batch=cases.csv")
    elif not Path(config.batch).is_file():
        raise ConfigError(f"batch={config.batch}: no such file; expected a CSV file with one video a row")
    check_numbers(config.steps, config.seed, config.window, config.overlap)
    check_choice("drive", config.drive)
    check_choice("emotion.extend", config.emotion.extend)


EXAMPLES = {"portrait": "face.png", "speech": "voice.wav"}


def check_choice(key: str, value: str) -> None:
    """Refuses what is none of a key's choices.

    Raises:
        ConfigError: with those there are.
    """
    if value not in CHOICES[key]:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(CHOICES[key])}")


def check_numbers(steps: int | None, seed: int, window: int | None, overlap: int | None) -> None:
    """Refuses numbers that no network could sample with.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    if steps is not None and steps < 1:
        raise ConfigError(f"steps={steps}: expected a number of DDIM steps from 1")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed={seed}: expected a whole number from 0 to 2^63 - 1")
    if window is not None and window < 1:
        raise ConfigError(f"window={window}: expected a number of frames from 1")
    if overlap is not None and not 0 <= overlap < (window or math.inf):
        within = "" if window is None else f" and less than window={window}"
        raise ConfigError(f"overlap={overlap}: expected at least 0{within}")
