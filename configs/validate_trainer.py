"""Rules of ``trainer``: devices, strategy and precision that go together, and what ZeRO is refused for."""

from __future__ import annotations

import re

from configs.errors import ConfigError
from configs.registries import STAGES
from configs.rules import one_of, positive
from configs.training import TrainConfig

STRATEGIES = ("auto", "ddp", "deepspeed")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")
NO_STAGE_3 = (
    "ZeRO stage 3 splits the weights themselves, and blocks that are computed again in the backward pass then find "
    "weights of no size; at 1.6 billion parameters it would save little. Use trainer=deepspeed (stage 2), or "
    "trainer=deepspeed_offload where memory is short"
)


def validate_trainer(config: TrainConfig) -> None:
    """Checks the trainer's part of the configuration.

    Raises:
        ConfigError: naming the key, its value, and what is expected.
    """
    trainer, zero = config.trainer, config.trainer.deepspeed
    if trainer.strategy.startswith("deepspeed_stage_3") or zero.stage == 3:
        key = f"trainer.deepspeed.stage={zero.stage}" if zero.stage == 3 else f"trainer.strategy={trainer.strategy}"
        raise ConfigError(f"{key}: {NO_STAGE_3}")
    one_of("trainer.strategy", trainer.strategy, STRATEGIES)
    one_of("trainer.precision", trainer.precision, PRECISIONS)
    for key in (
        "nodes",
        "max_steps",
        "max_minutes",
        "validate_every",
        "validation_clips",
        "gradient_clip",
        "log_every",
    ):
        positive(f"trainer.{key}", getattr(trainer, key))
    positive("trainer.gradient_clip", trainer.gradient_clip)
    _validate_deepspeed(config)
    if not STAGES.get(config.stage).bfloat16 and _weights_are_16_bit(config):
        raise ConfigError(
            f"trainer.precision={trainer.precision}"
            + (" with trainer.strategy=deepspeed" if trainer.strategy == "deepspeed" else "")
            + f": keeps weights in bfloat16, and stage {config.stage} learns with float32 ones (CLUB and InfoNCE need "
            "them); it is small: use trainer=ddp, or trainer=deepspeed_autocast"
        )
    if not re.fullmatch(r"auto|-1|\d+(,\d+)*,?", trainer.devices):
        raise ConfigError(f"trainer.devices={trainer.devices}: expected how many processes a machine runs, or auto")
    if trainer.devices.isdecimal():
        check_ranks(config, int(trainer.devices) * trainer.nodes)


def check_ranks(config: TrainConfig, ranks: int) -> None:
    """Refuses a number of ranks that cannot share the global batch equally.

    Raises:
        ConfigError: with the numbers that would do.
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


def _validate_deepspeed(config: TrainConfig) -> None:
    trainer, zero = config.trainer, config.trainer.deepspeed
    if trainer.strategy != "deepspeed":
        for key in ("autocast", "offload_optimizer"):
            if getattr(zero, key):
                raise ConfigError(
                    f"trainer.deepspeed.{key}=true: trainer.strategy={trainer.strategy} is not DeepSpeed; choose "
                    f"trainer={'deepspeed_autocast' if key == 'autocast' else 'deepspeed_offload'}"
                )
        return
    positive("trainer.deepspeed.bucket", zero.bucket)
    if zero.stage not in (1, 2):
        raise ConfigError(f"trainer.deepspeed.stage={zero.stage}: expected 1 or 2")
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
            "use bf16-mixed, which under DeepSpeed means bfloat16 weights beside the optimizer's float32 ones"
        )


def _weights_are_16_bit(config: TrainConfig) -> bool:
    trainer = config.trainer
    return trainer.precision == "bf16-true" or (trainer.strategy == "deepspeed" and trainer.precision == "bf16-mixed")
