"""Rules of ``prepare.py``'s configuration that no single field can express: said before any work starts."""

from __future__ import annotations

import math
from pathlib import Path

from configs.errors import ConfigError
from configs.preparation import MAX_SECONDS, PrepareConfig
from configs.registries import DATASETS
from configs.rules import one_of, parse_part, positive, share

PREPARE_TASKS = ("prepare", "merge", "check", "weights")
PRESETS = ("tiny", "small", "paper")


def validate_prepare(config: PrepareConfig) -> None:
    """Checks ``prepare.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    one_of("task", config.task, PREPARE_TASKS)
    if config.task == "weights":
        one_of("preset", config.preset, (*PRESETS, "metrics"))
        return
    one_of("preset", config.preset, PRESETS)
    if not config.output:
        raise ConfigError("output is missing: name the folder of the shards, e.g. output=data/mine")
    parse_part(config.part)
    if config.task == "prepare":
        _validate_source(config)
        _validate_numbers(config)


def _validate_source(config: PrepareConfig) -> None:
    if not config.dataset.name:
        raise ConfigError(f"dataset is missing: choose dataset={'|'.join(DATASETS.names())}")
    if config.dataset.name == "synthetic":
        if config.source:
            raise ConfigError("source: dataset=synthetic makes its own videos under output/raw; leave source out")
        return
    if not config.source:
        raise ConfigError("source is missing: name the folder of the raw videos, e.g. source=my_videos")
    if not Path(config.source).is_dir():
        kind = "is a file" if Path(config.source).exists() else "does not exist"
        raise ConfigError(f"source={config.source}: {kind}; expected a folder of videos")
    if config.dataset.annotations and config.encoders.landmarks.name == "sidecar":
        raise ConfigError(
            "dataset.annotations: cutting and cropping raw videos needs a landmark detector, not files beside them; "
            "add encoders/landmarks=mediapipe"
        )


def _validate_numbers(config: PrepareConfig) -> None:
    one_of("device", config.device, ("auto", "cpu", "cuda"))
    one_of("store_video", config.store_video, ("none", "test", "all"))
    for key in ("workers", "shard_bytes", "min_frames", "clip_timeout", "frame_size"):
        positive(key, getattr(config, key))
    if config.frame_size % 8:
        raise ConfigError(f"frame_size={config.frame_size}: expected a multiple of 8, which every codec needs")
    if not 0 < config.max_seconds <= MAX_SECONDS:
        raise ConfigError(f"max_seconds={config.max_seconds}: expected more than 0 and at most {MAX_SECONDS:g}")
    share("max_rejected", config.max_rejected)
    for key in ("max_missing", "max_several", "max_outside"):
        share(f"face.{key}", getattr(config.face, key))
    for key, value in (("scale", config.face.scale), ("box_scale", config.face.box_scale)):
        if not (math.isfinite(value) and value >= 1):
            raise ConfigError(f"face.{key}={value}: expected 1 or more, or the crop would cut the face")
    positive("face.min_size", config.face.min_size)
    if config.face.max_gap < 0:
        raise ConfigError(f"face.max_gap={config.face.max_gap}: expected a number of frames from 0")
    if math.isnan(config.audio.silence_db):
        raise ConfigError("audio.silence_db=nan: expected a level in dBFS, e.g. -60")
    positive("audio.max_mismatch", config.audio.max_mismatch)
    if config.dataset.name == "synthetic":
        one_of("dataset.layout", config.dataset.layout, ("mead", "hdtf"))
        for key in ("identities", "clips_per_identity", "seconds", "size"):
            positive(f"dataset.{key}", getattr(config.dataset, key))
