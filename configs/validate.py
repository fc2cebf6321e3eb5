"""Rules that no single field can express: what may not be combined, said before any work starts."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

from configs.command_line import ConfigError
from configs.emotion import EmotionModelConfig
from configs.schema import CellConfig, EvaluateConfig, PrepareConfig
from configs.standin import StandInConfig
from configs.systems import RunSystemConfig
from configs.training import EthdConfig, TrainConfig, VAIDConfig
from datamodules.schema import ENCODER_KINDS, MAX_SECONDS

PREPARE_TASKS = ("prepare", "merge", "check", "weights")
DATASETS = ("hdtf", "mead", "folder", "synthetic")
PRESETS = ("tiny", "small", "paper")
STAGES = ("vaid", "ethd", "emotion", "standin")
STANDIN_FIELDS = {
    "sync": ("video", "boxes", "speech"),
    "image": ("video", "lip", "expression"),
    "video": ("video", "lip", "expression"),
    "expression": ("video", "boxes", "factors"),
}
LOGGERS = ("csv", "tensorboard", "wandb")
MODES = ("A", "A+V", "control")
STRATEGIES = ("auto", "ddp")
VAID_FIELDS = ("audio", "lip", "expression", "portraits")
ETHD_FIELDS = ("audio", "expression", "latent", "boxes", "portraits")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(allowed)}")


def _positive(key: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
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
        if not (math.isfinite(value) and value >= 1):
            raise ConfigError(f"face.{key}={value}: expected 1 or more, or the crop would cut the face")
    _positive("face.min_size", config.face.min_size)
    if config.face.max_gap < 0:
        raise ConfigError(f"face.max_gap={config.face.max_gap}: expected a number of frames from 0")
    if math.isnan(config.audio.silence_db):
        raise ConfigError("audio.silence_db=nan: expected a level in dBFS, e.g. -60")
    _positive("audio.max_mismatch", config.audio.max_mismatch)
    if config.dataset is not None and config.dataset.name == "synthetic":
        _one_of("dataset.layout", config.dataset.layout, ("mead", "hdtf"))
        for key in ("identities", "clips_per_identity", "seconds", "size"):
            _positive(f"dataset.{key}", getattr(config.dataset, key))


def validate_train(config: TrainConfig) -> None:
    """Checks ``train.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    _one_of("stage", config.stage, STAGES)
    _one_of("data.reference", config.data.reference, ("clip", "speaker"))
    _one_of("logger.name", config.logger.name, LOGGERS)
    _installed(config.logger.name)
    _one_of("trainer.strategy", config.trainer.strategy, STRATEGIES)
    for kind in config.encoders:
        _one_of("encoders", kind, ENCODER_KINDS)
    if config.run_id is not None and (not config.run_id or set("/\\") & set(config.run_id)):
        raise ConfigError(f"run_id={config.run_id}: names a folder in output/stage, so it cannot hold a slash")
    if config.data.name != "mixture" and not config.data.root:
        raise ConfigError("data.root is missing: name the folder of the shards that prepare.py wrote")
    for key in ("max_steps", "max_minutes", "validate_every", "validation_clips", "gradient_clip", "log_every"):
        _positive(f"trainer.{key}", getattr(config.trainer, key))
    if isinstance(config.model, VAIDConfig):
        _validate_vaid(config.model, config)
    if isinstance(config.model, EthdConfig):
        _validate_ethd(config.model, config)
    elif config.vaid is not None:
        raise ConfigError(f"vaid={config.vaid}: stage {config.stage} uses no V-AID; leave it out")
    if isinstance(config.model, EmotionModelConfig):
        for key in ("hidden", "batch_size", "lr"):
            _positive(f"model.{key}", getattr(config.model, key))
        _share("model.dropout", config.model.dropout)
    if isinstance(config.model, StandInConfig):
        _validate_standin(config.model, config)
    for key in ("sample_every", "sample_clips", "evaluate_every", "evaluate_clips", "frames"):
        _positive(f"videos.{key}", getattr(config.videos, key))
    for name in config.videos.metrics:
        _one_of("videos.metrics", name, METRICS)
    if config.stage != "ethd" and (config.videos.sample_every or config.videos.evaluate_every):
        raise ConfigError(f"videos: stage={config.stage} makes no videos; they belong to stage=ethd")


def _validate_standin(model: StandInConfig, config: TrainConfig) -> None:
    _one_of("model.kind", model.kind, tuple(STANDIN_FIELDS))
    if lacking := [name for name in STANDIN_FIELDS[model.kind] if name not in config.data.fields]:
        raise ConfigError(f"data.fields={config.data.fields}: model.kind={model.kind} also needs {', '.join(lacking)}")
    for key in ("lr", "min_track", "min_face"):
        _positive(f"model.{key}", getattr(model, key))
    if model.kind == "expression" and not model.factors:
        raise ConfigError("model.factors=[]: name the factors to be learnt")


def _installed(logger: str) -> None:
    spec = None if logger == "csv" else importlib.util.find_spec(logger)
    if logger != "csv" and (spec is None or spec.origin is None):  # a folder of that name, as W&B leaves, is no package
        raise ConfigError(f"logger.name={logger}: is not installed; pip install {logger}, or choose logger=csv")


def _validate_vaid(model: VAIDConfig, config: TrainConfig) -> None:
    if lacking := [name for name in VAID_FIELDS if name not in config.data.fields]:
        raise ConfigError(f"data.fields={config.data.fields}: V-AID also needs {', '.join(lacking)}")
    for key, width, head in (
        ("lip", model.lip.width, model.lip.head_width),
        ("expression", model.expression.width, model.expression.head_width),
    ):
        _positive(f"model.{key}.head_width", head)
        if width % head:
            raise ConfigError(f"model.{key}.head_width={head}: does not divide model.{key}.width={width}")
    if model.expression.head_width % 2:
        raise ConfigError(f"model.expression.head_width={model.expression.head_width}: rotary positions need it even")
    _one_of("model.expression.audio_mode", model.expression.audio_mode, ("add", "cross_attn"))
    _one_of("model.expression.condition_mode", model.expression.condition_mode, ("adaln", "cross_attn"))
    _one_of("model.regression_reduction", model.regression_reduction, ("mean", "sum"))
    _one_of("model.club.weighting", model.club.weighting, ("alpha_bar", "none"))
    _one_of("model.lr_decay", model.lr_decay, ("none", "cosine"))
    for key in ("diffusion_steps", "sampling_steps", "window", "temperature", "lr"):
        _positive(f"model.{key}", getattr(model, key))
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"model.sampling_steps={model.sampling_steps}: at most diffusion_steps={model.diffusion_steps}"
        )
    if not 0 <= model.overlap < model.window:
        raise ConfigError(f"model.overlap={model.overlap}: expected at least 0 and less than window={model.window}")
    _share("model.condition_dropout", model.condition_dropout)
    if model.guidance != 1 and not model.condition_dropout:
        raise ConfigError(f"model.guidance={model.guidance}: needs model.condition_dropout above 0, e.g. 0.1")
    if model.club.weight < 0:
        raise ConfigError(f"model.club.weight={model.club.weight}: expected 0 or more")


def _validate_ethd(model: EthdConfig, config: TrainConfig) -> None:
    if not config.vaid:
        raise ConfigError(
            "vaid is missing: name the run directory or checkpoint of a trained V-AID, e.g. vaid=outputs/vaid/first"
        )
    if lacking := [name for name in ETHD_FIELDS if name not in config.data.fields]:
        raise ConfigError(f"data.fields={config.data.fields}: ETHD also needs {', '.join(lacking)}")
    if config.data.pad:
        raise ConfigError("data.pad=true: ETHD trains short clips at their own length; set data.pad=false")
    _validate_unet(model)
    _one_of("model.variant", model.variant, ("full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"))
    _one_of("model.loss", model.loss, ("x0", "v", "min_snr"))
    _one_of("model.mask_source", model.mask_source, ("reference", "window"))
    _one_of("model.lr_decay", model.lr_decay, ("none", "cosine"))
    for key in ("diffusion_steps", "sampling_steps", "window", "snr_gamma", "expression_steps", "lr"):
        _positive(f"model.{key}", getattr(model, key))
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"model.sampling_steps={model.sampling_steps}: at most diffusion_steps={model.diffusion_steps}"
        )
    if model.overlap is not None and not 0 <= model.overlap < model.window:
        raise ConfigError(f"model.overlap={model.overlap}: expected at least 0 and less than window={model.window}")
    for key in ("audio_expression_probability", "condition_dropout", "ema"):
        _share(f"model.{key}", getattr(model, key))
    for key in ("reference_noise", "lr_warmup", "weight_decay"):
        if not getattr(model, key) >= 0:
            raise ConfigError(f"model.{key}={getattr(model, key)}: expected 0 or more")
    if model.ema == 1:
        raise ConfigError("model.ema=1: would keep the first weights for ever; expected less than 1, e.g. 0.9999")


def _validate_unet(model: EthdConfig) -> None:
    unet = model.unet
    for key in ("layers", "token_width", "added_width"):
        _positive(f"model.unet.{key}", getattr(unet, key))
    for key in ("token_width", "added_width"):
        if getattr(unet, key) % 2:
            raise ConfigError(f"model.unet.{key}={getattr(unet, key)}: sines and cosines come in pairs; make it even")
    if not len(unet.channels) == len(unet.heads) == len(unet.attention) >= 1:
        raise ConfigError(
            f"model.unet: channels, heads and attention name {len(unet.channels)}, {len(unet.heads)} and "
            f"{len(unet.attention)} levels; expected one entry each per level"
        )
    for channels, heads in zip(unet.channels, unet.heads, strict=True):
        if heads < 1 or channels < 1 or channels % 32 or channels % heads:
            raise ConfigError(
                f"model.unet.channels={unet.channels}: expected multiples of 32 and of each level's heads, {heads} "
                f"for {channels}"
            )


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
    _one_of("sync.detector", config.sync.detector, ("s3fd", "mediapipe", "sidecar"))
    _one_of("fid.network", config.fid.network, ("inception", "standin"))
    _one_of("fvd.network", config.fvd.network, ("i3d", "standin"))
    _one_of("sync.network", config.sync.network, ("syncnet", "standin"))
    _one_of("efid.network", config.efid.network, ("deep3d", "3ddfa", "standin"))
    _one_of("efid.landmarks", config.efid.landmarks, ("detector", "sidecar"))
    _validate_sidecars(config)
    for key, value in (
        ("fps", config.fps),
        ("max_gap", config.max_gap),
        ("fid.batch_size", config.fid.batch_size),
        ("efid.batch_size", config.efid.batch_size),
        ("sync.min_track", config.sync.min_track),
        ("drift", config.drift),
    ):
        _positive(key, value)
    if config.bootstrap < 0 or config.bootstrap == 1:
        raise ConfigError(f"bootstrap={config.bootstrap}: expected 0 or at least 2 resamples")
    _validate_crop(config.crop)
    _validate_cell(config.cell)
    for key in ("fid.weights", "fvd.weights", "sync.weights", "sync.detector_weights", "efid.weights"):
        group, name = key.split(".")
        file = getattr(getattr(config, group), name)
        if file is not None and not Path(file).is_file():
            raise ConfigError(f"{key}={file}: no such file; leave it out for the official weights")


def _validate_sidecars(config: EvaluateConfig) -> None:
    if config.sync.detector == "sidecar" and config.sync.mode != "fast":
        raise ConfigError(
            "sync.detector=sidecar: the frames of mode=reference are not those of the landmark file; add sync.mode=fast"
        )
    if "sidecar" in (config.sync.detector, config.efid.landmarks) and (config.crop is not None or config.fps != 25):
        raise ConfigError("crop, fps: landmark files beside the videos hold whole pictures at 25 fps; leave both out")


def _validate_cell(cell: CellConfig) -> None:
    if not cell.system:
        if cell.dataset or cell.mode:
            raise ConfigError("cell.system is missing: name the system whose cell of the tables this is")
        return
    if not cell.dataset:
        raise ConfigError("cell.dataset is missing: name the test set, e.g. cell.dataset=hdtf")
    _one_of("cell.mode", str(cell.mode), MODES)
    if cell.run < 0:
        raise ConfigError(f"cell.run={cell.run}: expected 0 or more")


def _validate_crop(crop: list[int] | None) -> None:
    if crop is not None and (len(crop) != 4 or min(crop[:2]) < 0 or min(crop[2:]) < 1):
        raise ConfigError(f"crop={crop}: expected [x,y,width,height] in pixels, e.g. crop=[1030,2,512,512]")


def validate_run_system(config: RunSystemConfig) -> None:
    """Checks the configuration of ``python -m benchmark.run`` as a whole.

    What is wrong with a system on this machine is not found here: it becomes the reason of each of its clips.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    if not Path(config.cases).is_file():
        raise ConfigError(f"cases={config.cases}: no such file; expected a .csv with columns clip, portrait, speech")
    if Path(config.output).is_file():
        raise ConfigError(f"output={config.output}: is a file; expected the name of a folder")
    parse_part(config.part)
    _one_of("device", config.device, ("cuda", "cpu"))
    _one_of("landmarks", config.landmarks, ("mediapipe", "sidecar"))
    _positive("workers", config.workers)
    _positive("clip_timeout", config.clip_timeout)
    if config.panel is not None and (len(config.panel) != 4 or min(config.panel[:2]) < 0 or min(config.panel[2:]) < 1):
        raise ConfigError(f"panel={config.panel}: expected [x,y,width,height] in pixels, e.g. panel=[512,0,512,512]")
    if config.offset < 0:
        raise ConfigError(f"offset={config.offset}: expected a number of frames from 0")
    if config.system != "folder" and (config.videos or config.title or config.panel or config.offset):
        raise ConfigError("videos, title, panel and offset describe system=folder; the others have files of their own")
