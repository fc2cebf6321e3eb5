"""Rules between several fields of ``train.py``'s configuration: network, data and devices must match."""

from __future__ import annotations

import importlib.util

from configs.errors import ConfigError
from configs.fields import one_of
from configs.loggers import LoggerConfig
from configs.preparation import ENCODER_KINDS
from configs.proxy import ProxyConfig
from configs.registries import STAGES
from configs.renamed import note
from configs.training import EthdConfig, TrainConfig, VAIDConfig


def check_train(config: TrainConfig) -> None:
    """Checks the rules between networks, data and trainer; ``check_data`` has checked ``data`` by itself.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    check_loggers(config.logger)
    _trainer(config)
    for kind in config.encoders:
        one_of(*ENCODER_KINDS).require("encoders", kind)
    model, stage = config.model, STAGES.get(config.stage)
    if not isinstance(model, stage.config):
        raise ConfigError(f"stage={config.stage}: trains model={config.stage}, found a {type(model).__name__}")
    if lacking := [name for name in stage.fields(model) if name not in config.data.fields]:
        raise ConfigError(f"data.fields={config.data.fields}: stage={config.stage} also needs {', '.join(lacking)}")
    if isinstance(model, EthdConfig):
        _ethd(model, config)
    elif config.vaid is not None:
        raise ConfigError(f"vaid={config.vaid}: stage {config.stage} uses no V-AID; leave it out")
    if isinstance(model, VAIDConfig):
        _vaid(model)
    if isinstance(model, ProxyConfig) and model.kind == "expression" and not model.factors:
        raise ConfigError("model.factors=[]: name the factors to learn")
    if both := sorted({*config.preemption.requeue_on} & {*config.preemption.stop_on}):
        raise ConfigError(f"preemption: {', '.join(both)} cannot be both in requeue_on and in stop_on")
    if not stage.videos and (config.videos.sample_every or config.videos.evaluate_every):
        raise ConfigError(f"videos: stage={config.stage} makes no videos; they belong to stage=ethd")


def _sampling(model: VAIDConfig | EthdConfig) -> None:
    if model.sampling_steps > model.diffusion_steps:
        raise ConfigError(
            f"model.sampling_steps={model.sampling_steps}: at most diffusion_steps={model.diffusion_steps}"
        )
    if model.overlap is not None and model.overlap >= model.window:
        raise ConfigError(f"model.overlap={model.overlap}: expected at least 0 and less than window={model.window}")


def check_loggers(config: LoggerConfig) -> None:
    """Refuses loggers that are not installed, and arguments of those that have keys of their own.

    Raises:
        ConfigError: Names the logger, and what to install or change.
    """
    if config.name:
        note(f"logger.name={config.name} is now logger={config.name}")
    for name, arguments in config.chosen.items():
        if "class" in arguments or name not in ("tensorboard", "wandb"):
            continue
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder that W&B wrote is not a package
            raise ConfigError(f"logger={name}: is not installed; pip install {name}, or choose logger=csv")
        if arguments:
            raise ConfigError(
                f"logger.use.{name}: takes no arguments; W&B's keys are logger.project, logger.entity, logger.group, "
                "logger.tags, logger.notes and logger.offline, and TensorBoard has none"
            )


def _vaid(model: VAIDConfig) -> None:
    for key, part in (("lip", model.lip), ("expression", model.expression)):
        if part.width % part.head_width:
            raise ConfigError(
                f"model.{key}.head_width={part.head_width}: does not divide model.{key}.width={part.width}"
            )
    if model.expression.head_width % 2:
        raise ConfigError(f"model.expression.head_width={model.expression.head_width}: expected an even number")
    _sampling(model)
    if model.guidance != 1 and not model.condition_dropout:
        raise ConfigError(f"model.guidance={model.guidance}: needs model.condition_dropout above 0, e.g. 0.1")


def _ethd(model: EthdConfig, config: TrainConfig) -> None:
    if not config.vaid:
        raise ConfigError(
            "vaid is missing: name the run directory or checkpoint of a trained V-AID, e.g. vaid=outputs/vaid/first"
        )
    if config.data.pad:
        raise ConfigError("data.pad=true: ETHD trains short clips at their own length; set data.pad=false")
    if model.svd and model.prediction != "v":
        raise ConfigError(f"model.prediction={model.prediction}: SVD's weights predict v; set model.prediction=v")
    _sampling(model)
    unet = model.unet
    if not len(unet.channels) == len(unet.heads) == len(unet.attention) >= 1:
        raise ConfigError(
            f"model.unet: channels, heads and attention name {len(unet.channels)}, {len(unet.heads)} and "
            f"{len(unet.attention)} levels; expected one entry each per level"
        )
    for channels, heads in zip(unet.channels, unet.heads, strict=True):
        if channels % 32 or channels % heads:
            raise ConfigError(
                f"model.unet.channels={unet.channels}: expected multiples of 32 and of each level's heads, {heads} "
                f"for {channels}"
            )


def _trainer(config: TrainConfig) -> None:
    trainer = config.trainer
    _deepspeed(config)
    if not STAGES.get(config.stage).bfloat16 and _weights_are_16_bit(config):
        raise ConfigError(
            f"trainer.precision={trainer.precision}"
            + (" with trainer.strategy=deepspeed" if trainer.strategy == "deepspeed" else "")
            + f": keeps weights in bfloat16, but stage {config.stage} needs float32 weights for CLUB and InfoNCE; use "
            "trainer=ddp, which is enough for a small network, or trainer=deepspeed_autocast"
        )
    if trainer.accelerator == "cpu" and trainer.devices != "auto" and not trainer.devices.isdecimal():
        raise ConfigError(
            f"trainer.devices={trainer.devices}: names GPUs; trainer.accelerator=cpu needs a number or auto"
        )
    if trainer.devices.isdecimal():
        check_ranks(config, int(trainer.devices) * trainer.nodes)


def check_ranks(config: TrainConfig, ranks: int) -> None:
    """Refuses a number of ranks that does not divide the global batch.

    Raises:
        ConfigError: Names the numbers that do.
    """
    batch = config.data.batch_size
    if ranks < 1:
        raise ConfigError(f"trainer.devices={config.trainer.devices}: expected at least 1, or auto")
    if batch % ranks:
        fitting = ", ".join(str(count) for count in range(1, batch + 1) if batch % count == 0)
        raise ConfigError(
            f"data.batch_size={batch} is the batch over all ranks, and {ranks} ranks (trainer.devices="
            f"{config.trainer.devices}, trainer.nodes={config.trainer.nodes}) cannot share it equally: run on "
            f"{fitting} ranks, or set data.batch_size={-(-batch // ranks) * ranks}"
        )


def _deepspeed(config: TrainConfig) -> None:
    trainer, zero = config.trainer, config.trainer.deepspeed
    if trainer.strategy != "deepspeed":
        for key in ("autocast", "offload_optimizer"):
            if getattr(zero, key):
                raise ConfigError(
                    f"trainer.deepspeed.{key}=true: trainer.strategy={trainer.strategy} is not DeepSpeed; choose "
                    f"trainer={'deepspeed_autocast' if key == 'autocast' else 'deepspeed_offload'}"
                )
        return
    if trainer.accelerator != "gpu":
        raise ConfigError(
            f"trainer.strategy=deepspeed with trainer.accelerator={trainer.accelerator}: runs on GPUs only; set "
            "trainer.accelerator=gpu, or choose trainer=cpu or trainer=ddp"
        )
    if zero.autocast and trainer.precision != "32-true":
        raise ConfigError(
            f"trainer.deepspeed.autocast=true with trainer.precision={trainer.precision}: autocast keeps float32 "
            "weights, so it goes with trainer.precision=32-true; without it, trainer=deepspeed keeps bfloat16 ones"
        )
    if trainer.precision == "bf16-true":
        raise ConfigError(
            "trainer.precision=bf16-true with trainer.strategy=deepspeed: the optimizer would have no float32 weights; "
            "use bf16-mixed, which under DeepSpeed means bfloat16 weights and a float32 copy in the optimizer"
        )


def _weights_are_16_bit(config: TrainConfig) -> bool:
    trainer = config.trainer
    return trainer.precision == "bf16-true" or (trainer.strategy == "deepspeed" and trainer.precision == "bf16-mixed")
