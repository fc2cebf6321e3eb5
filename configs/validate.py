"""Rules that no single field can express: what may not be combined, said before any work starts."""

from __future__ import annotations

from pathlib import Path

from configs.command_line import ConfigError
from configs.schema import EvaluateConfig, PrepareConfig
from datamodules.schema import MAX_SECONDS

PREPARE_TASKS = ("prepare", "merge", "check", "weights")
DATASETS = ("hdtf", "mead", "folder", "synthetic")
PRESETS = ("tiny", "small", "paper")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(allowed)}")


def _positive(key: str, value: float | None) -> None:
    if value is not None and value <= 0:
        raise ConfigError(f"{key}={value}: expected a number above 0")


def _share(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{key}={value}: expected a share between 0 and 1")


def parse_part(part: str) -> tuple[int, int]:
    """``3/16`` -> (2, 16): the index of this part from 0, and how many there are.

    Raises:
        ConfigError: on anything else than ``i/n`` with 1 <= i <= n.
    """
    number, slash, total = part.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ConfigError(f"part={part}: expected i/n with 1 <= i <= n, e.g. part=3/16")
    return int(number) - 1, int(total)


def validate_prepare(config: PrepareConfig) -> None:
    """Checks ``prepare.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    _one_of("task", config.task, PREPARE_TASKS)
    _one_of("preset", config.preset, PRESETS)
    if config.task == "weights":
        return
    if not config.output:
        raise ConfigError("output is missing: name the folder of the shards, e.g. output=data/mine")
    parse_part(config.part)
    if config.task == "prepare":
        _validate_source(config)
        _validate_numbers(config)


def _validate_source(config: PrepareConfig) -> None:
    if config.dataset is None:
        raise ConfigError(f"dataset is missing: choose dataset={'|'.join(DATASETS)}")
    _one_of("dataset.name", config.dataset.name, DATASETS)
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
    _one_of("device", config.device, ("auto", "cpu", "cuda"))
    _one_of("store_video", config.store_video, ("none", "test", "all"))
    for key in ("workers", "shard_bytes", "min_frames", "clip_timeout", "frame_size"):
        _positive(key, getattr(config, key))
    if config.frame_size % 8:
        raise ConfigError(f"frame_size={config.frame_size}: expected a multiple of 8, which every codec needs")
    if not 0 < config.max_seconds <= MAX_SECONDS:
        raise ConfigError(f"max_seconds={config.max_seconds}: expected more than 0 and at most {MAX_SECONDS:g}")
    _share("max_rejected", config.max_rejected)
    for key in ("max_missing", "max_several", "max_outside"):
        _share(f"face.{key}", getattr(config.face, key))
    for key, value in (("scale", config.face.scale), ("box_scale", config.face.box_scale)):
        if value < 1:
            raise ConfigError(f"face.{key}={value}: expected 1 or more, or the crop would cut the face")
    _positive("audio.max_mismatch", config.audio.max_mismatch)
    if config.dataset is not None and config.dataset.name == "synthetic":
        _one_of("dataset.layout", config.dataset.layout, ("mead", "hdtf"))
        for key in ("identities", "clips_per_identity", "seconds", "size"):
            _positive(f"dataset.{key}", getattr(config.dataset, key))


METRICS = ("fid", "fvd", "sync", "efid")
FVD_PROTOCOLS = (
    "stylegan-v",
    "stylegan-v-128f",
    "stylegan-v-128f-subsample8",
    "fvd-comparison",
    "videogpt",
    "latentsync",
    "disco",
)


def validate_evaluate(config: EvaluateConfig) -> None:
    """Checks ``evaluate.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    for key in ("generated", "reference"):
        folder = Path(getattr(config, key))
        if not folder.is_dir():
            kind = "is a file" if folder.exists() else "does not exist"
            raise ConfigError(f"{key}={folder}: {kind}; expected a folder of videos")
    if Path(config.output).suffix != ".json" or Path(config.output).is_dir():
        raise ConfigError(f"output={config.output}: expected the name of a .json file, e.g. output=results/mine.json")
    if not config.metrics:
        raise ConfigError(f"metrics=[]: expected some of {', '.join(METRICS)}")
    for name in config.metrics:
        _one_of("metrics", name, METRICS)
    _one_of("device", config.device, ("auto", "cpu", "cuda"))
    _one_of("fvd.protocol", config.fvd.protocol, FVD_PROTOCOLS)
    _one_of("sync.mode", config.sync.mode, ("reference", "fast"))
    _one_of("sync.detector", config.sync.detector, ("s3fd", "mediapipe"))
    _one_of("efid.network", config.efid.network, ("deep3d", "3ddfa"))
    for key, value in (
        ("fps", config.fps),
        ("max_gap", config.max_gap),
        ("fid.batch_size", config.fid.batch_size),
        ("efid.batch_size", config.efid.batch_size),
        ("sync.min_track", config.sync.min_track),
    ):
        _positive(key, value)
    if config.bootstrap < 0 or config.bootstrap == 1:
        raise ConfigError(f"bootstrap={config.bootstrap}: expected 0 or at least 2 resamples")
    _validate_crop(config.crop)
    for key in ("fid.weights", "fvd.weights", "sync.weights", "sync.detector_weights", "efid.weights"):
        group, name = key.split(".")
        file = getattr(getattr(config, group), name)
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"{key}={file}: no such file; leave it out for the official weights")


def _validate_crop(crop: list[int] | None) -> None:
    if crop is not None and (len(crop) != 4 or min(crop[:2]) < 0 or min(crop[2:]) < 1):
        raise ConfigError(f"crop={crop}: expected [x,y,width,height] in pixels, e.g. crop=[1030,2,512,512]")
