"""Rules between several fields of ``train.py``'s configuration: network, data and devices must match."""

from __future__ import annotations

import importlib.util

from configs.errors import ConfigError
from configs.fields import one_of
from configs.loggers import LoggerConfig
from configs.models import EthdConfig, VAIDConfig
from configs.preparation import ENCODER_KINDS
from configs.proxy import ProxyConfig
from configs.registries import STAGES
from configs.renamed import note
from configs.training import NO_INIT, SVD_INIT, TrainConfig, TrainerConfig

SVD_PREDICTS_V = "model.prediction={}: SVD's weights predict v; set model.prediction=v"
VAID_MISSING = "vaid is missing: name the run directory or checkpoint of a trained V-AID, e.g. vaid=outputs/vaid/first"


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
    _init(config)
    if isinstance(model, EthdConfig):
        _ethd(model, config)
    elif config.vaid is not None:
        raise ConfigError(f"vaid={config.vaid}: stage {config.stage} uses no V-AID; leave it out")
    if isinstance(model, VAIDConfig):
        _vaid(model)
        if config.data.micro_batch and model.club.weight and not config.data.pad:
            raise ConfigError(
                f"data.pad=false with data.micro_batch={config.data.micro_batch}: CLUB of stage={config.stage} pairs "
                "the frames of all clips, which needs windows of one length; set data.pad=true"
            )
    if isinstance(model, ProxyConfig) and model.kind == "expression" and not model.factors:
        raise ConfigError("model.factors=[]: name the factors to learn")
    if both := sorted({*config.preemption.requeue_on} & {*config.preemption.stop_on}):
        raise ConfigError(f"preemption: {', '.join(both)} cannot be both in requeue_on and in stop_on")
    if not stage.videos and (config.videos.sample_every or config.videos.evaluate_every):
        raise ConfigError(f"videos: stage={config.stage} makes no videos; they belong to stage=ethd")


def _init(config: TrainConfig) -> None:
    stage = STAGES.get(config.stage)
    if config.init == NO_INIT or (stage.starts_from_svd if config.init == SVD_INIT else stage.starts_from_runs):
        return
    runs = f", or init=RUN with a run of stage {config.stage}" if stage.starts_from_runs else ""
    raise ConfigError(f"init={config.init}: stage {config.stage} starts from init=none{runs}")


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
    if not config.vaid and config.ckpt_path is None and config.init in (NO_INIT, SVD_INIT):
        raise ConfigError(VAID_MISSING)
    if config.data.pad:
        raise ConfigError("data.pad=true: ETHD trains short clips at their own length; set data.pad=false")
    if config.init == SVD_INIT and model.prediction != "v":
        raise ConfigError(SVD_PREDICTS_V.format(model.prediction))
    _sampling(model)
    for part, lacking in (("lip", "wo_lip"), ("expression", "wo_exp")):
        dropout, guidance = getattr(model, f"{part}_dropout"), getattr(model, f"{part}_guidance")
        if (dropout or guidance != 1) and model.variant in (lacking, "no_decouple"):
            raise ConfigError(
                f"model.{part}_dropout={dropout} model.{part}_guidance={guidance:g}: model.variant={model.variant} has "
                f"no such condition; set model.{part}_dropout=0 model.{part}_guidance=1"
            )
        if guidance != 1 and not dropout:
            raise ConfigError(f"model.{part}_guidance={guidance}: needs model.{part}_dropout above 0, e.g. 0.1")
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
    if trainer.compile and not STAGES.get(config.stage).compiles:
        raise ConfigError(f"trainer.compile=true: stage={config.stage} is not compiled; it is for stage=ethd")
    if not STAGES.get(config.stage).bfloat16 and weights_are_16_bit(config.trainer):
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
    """Refuses a number of ranks that does not divide the global batch, and accumulation where a stage has none.

    Raises:
        ConfigError: Names the numbers that do.
    """
    batch, micro = config.data.batch_size, config.data.micro_batch or 1
    count = batch // micro
    if ranks < 1:
        raise ConfigError(f"trainer.devices={config.trainer.devices}: expected at least 1, or auto")
    if count % ranks:
        fitting = ", ".join(map(str, divisors_of(count)))
        parts = f", in {count} micro-batches of data.micro_batch={micro}" if config.data.micro_batch else ""
        raise ConfigError(
            f"data.batch_size={batch} is the batch over all ranks{parts}, and {ranks} ranks (trainer.devices="
            f"{config.trainer.devices}, trainer.nodes={config.trainer.nodes}) cannot share it equally: run on "
            f"{fitting} ranks, or set data.batch_size={-(-count // ranks) * ranks * micro}"
        )
    if config.data.micro_batch and count > ranks and not STAGES.get(config.stage).accumulates:
        raise ConfigError(
            f"data.micro_batch={micro}: stage={config.stage} needs all clips of a rank in one forward pass and does "
            f"not accumulate gradients; leave data.micro_batch out, or run on {count} ranks"
        )


def divisors_of(number: int) -> list[int]:
    """Divisors of a positive number, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


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


def weights_are_16_bit(trainer: TrainerConfig) -> bool:
    """Whether the network's weights are bfloat16 in training; DeepSpeed's optimizer has float32 ones."""
    return trainer.strategy == "deepspeed" and trainer.precision == "bf16-mixed"
