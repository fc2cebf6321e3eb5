"""Rules of ``train.py``'s configuration that no single field can express: said before any work starts."""

from __future__ import annotations

import importlib.util
import signal

from configs.emotion import EmotionModelConfig
from configs.errors import ConfigError
from configs.preparation import ENCODER_KINDS
from configs.registries import STAGES
from configs.rules import one_of, positive, share
from configs.standin import StandInConfig
from configs.training import EthdConfig, PreemptionConfig, TrainConfig, VAIDConfig
from configs.validate_trainer import validate_trainer
from configs.wandb_mode import wandb_mode

LOGGERS = ("csv", "tensorboard", "wandb")


def validate_train(config: TrainConfig) -> None:
    """Checks ``train.py``'s configuration as a whole.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    one_of("data.reference", config.data.reference, ("clip", "speaker"))
    one_of("logger.name", config.logger.name, LOGGERS)
    _installed(config.logger.name)
    if config.logger.name == "wandb":
        wandb_mode(config.logger)
    validate_trainer(config)
    for kind in config.encoders:
        one_of("encoders", kind, ENCODER_KINDS)
    if config.run_id is not None and (not config.run_id or set("/\\") & set(config.run_id)):
        raise ConfigError(f"run_id={config.run_id}: names a folder in output/stage, so it cannot hold a slash")
    if config.data.name != "mixture" and not config.data.root:
        raise ConfigError("data.root is missing: name the folder of the shards that prepare.py wrote")
    stage = STAGES.get(config.stage)
    if lacking := [name for name in stage.fields(config.model) if name not in config.data.fields]:
        raise ConfigError(f"data.fields={config.data.fields}: stage={config.stage} also needs {', '.join(lacking)}")
    if isinstance(config.model, VAIDConfig):
        _validate_vaid(config.model, config)
    if isinstance(config.model, EthdConfig):
        _validate_ethd(config.model, config)
    elif config.vaid is not None:
        raise ConfigError(f"vaid={config.vaid}: stage {config.stage} uses no V-AID; leave it out")
    if isinstance(config.model, EmotionModelConfig):
        for key in ("hidden", "batch_size", "lr"):
            positive(f"model.{key}", getattr(config.model, key))
        share("model.dropout", config.model.dropout)
    if isinstance(config.model, StandInConfig):
        _validate_standin(config.model, config)
    _validate_preemption(config.preemption)
    for key in ("every", "keep"):
        positive(f"checkpoints.{key}", getattr(config.checkpoints, key))
    for key in ("step_minutes", "join_minutes", "other_minutes", "dead_seconds"):
        positive(f"watchdog.{key}", getattr(config.watchdog, key))
    for key in ("sample_every", "sample_clips", "evaluate_every", "evaluate_clips", "frames"):
        positive(f"videos.{key}", getattr(config.videos, key))
    if not stage.videos and (config.videos.sample_every or config.videos.evaluate_every):
        raise ConfigError(f"videos: stage={config.stage} makes no videos; they belong to stage=ethd")


def _validate_standin(model: StandInConfig, config: TrainConfig) -> None:
    one_of("model.kind", model.kind, ("sync", "image", "video", "expression"))
    for key in ("lr", "min_track", "min_face"):
        positive(f"model.{key}", getattr(model, key))
    if model.kind == "expression" and not model.factors:
        raise ConfigError("model.factors=[]: name the factors to be learnt")


def _validate_preemption(preemption: PreemptionConfig) -> None:
    for key in ("requeue_on", "stop_on"):
        for name in getattr(preemption, key):
            if name not in signal.Signals.__members__ or name in ("SIGKILL", "SIGSTOP"):
                raise ConfigError(f"preemption.{key}: {name} is no signal to be handled; expected e.g. SIGUSR1")
    if both := sorted({*preemption.requeue_on} & {*preemption.stop_on}):
        raise ConfigError(f"preemption: {', '.join(both)} cannot be both in requeue_on and in stop_on")
    if preemption.max_requeues < 0:
        raise ConfigError(f"preemption.max_requeues={preemption.max_requeues}: expected 0 or more")


def _installed(logger: str) -> None:
    spec = None if logger == "csv" else importlib.util.find_spec(logger)
    if logger != "csv" and (spec is None or spec.origin is None):  # a folder of that name, as W&B leaves, is no package
        raise ConfigError(f"logger.name={logger}: is not installed; pip install {logger}, or choose logger=csv")


def _validate_vaid(model: VAIDConfig, config: TrainConfig) -> None:
    for key, width, head in (
        ("lip", model.lip.width, model.lip.head_width),
        ("expression", model.expression.width, model.expression.head_width),
    ):
        positive(f"model.{key}.head_width", head)
        if width % head:
            raise ConfigError(f"model.{key}.head_width={head}: does not divide model.{key}.width={width}")
    if model.expression.head_width % 2:
        raise ConfigError(f"model.expression.head_width={model.expression.head_width}: rotary positions need it even")
    one_of("model.expression.audio_mode", model.expression.audio_mode, ("add", "cross_attn"))
    one_of("model.expression.condition_mode", model.expression.condition_mode, ("adaln", "cross_attn"))
    one_of("model.regression_reduction", model.regression_reduction, ("mean", "sum"))
    one_of("model.club.weighting", model.club.weighting, ("alpha_bar", "none"))
    one_of("model.lr_decay", model.lr_decay, ("none", "cosine"))
    for key in ("diffusion_steps", "sampling_steps", "window", "temperature", "lr"):
        positive(f"model.{key}", getattr(model, key))
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"model.sampling_steps={model.sampling_steps}: at most diffusion_steps={model.diffusion_steps}"
        )
    if not 0 <= model.overlap < model.window:
        raise ConfigError(f"model.overlap={model.overlap}: expected at least 0 and less than window={model.window}")
    share("model.condition_dropout", model.condition_dropout)
    if model.guidance != 1 and not model.condition_dropout:
        raise ConfigError(f"model.guidance={model.guidance}: needs model.condition_dropout above 0, e.g. 0.1")
    if model.club.weight < 0:
        raise ConfigError(f"model.club.weight={model.club.weight}: expected 0 or more")


def _validate_ethd(model: EthdConfig, config: TrainConfig) -> None:
    if not config.vaid:
        raise ConfigError(
            "vaid is missing: name the run directory or checkpoint of a trained V-AID, e.g. vaid=outputs/vaid/first"
        )
    if config.data.pad:
        raise ConfigError("data.pad=true: ETHD trains short clips at their own length; set data.pad=false")
    _validate_unet(model)
    one_of("model.variant", model.variant, ("full", "no_decouple", "wo_lip", "wo_exp", "wo_dicte"))
    one_of("model.prediction", model.prediction, ("v", "x0"))
    if model.svd and model.prediction != "v":
        raise ConfigError(f"model.prediction={model.prediction}: SVD's weights predict v; set model.prediction=v")
    one_of("model.loss", model.loss, ("x0", "v", "min_snr"))
    one_of("model.mask_source", model.mask_source, ("reference", "window"))
    one_of("model.lr_decay", model.lr_decay, ("none", "cosine"))
    for key in ("diffusion_steps", "noise_shift", "sampling_steps", "window", "snr_gamma", "expression_steps", "lr"):
        positive(f"model.{key}", getattr(model, key))
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"model.sampling_steps={model.sampling_steps}: at most diffusion_steps={model.diffusion_steps}"
        )
    if model.overlap is not None and not 0 <= model.overlap < model.window:
        raise ConfigError(f"model.overlap={model.overlap}: expected at least 0 and less than window={model.window}")
    for key in ("audio_expression_probability", "condition_dropout", "ema"):
        share(f"model.{key}", getattr(model, key))
    for key in ("reference_noise", "lr_warmup", "weight_decay"):
        if not getattr(model, key) >= 0:
            raise ConfigError(f"model.{key}={getattr(model, key)}: expected 0 or more")
    if model.ema == 1:
        raise ConfigError("model.ema=1: would keep the first weights for ever; expected less than 1, e.g. 0.9999")


def _validate_unet(model: EthdConfig) -> None:
    unet = model.unet
    for key in ("layers", "token_width", "added_width"):
        positive(f"model.unet.{key}", getattr(unet, key))
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
