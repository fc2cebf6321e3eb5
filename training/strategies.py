"""Distributed strategies (DDP, DeepSpeed ZeRO-1 and ZeRO-2) and precision.

Lightning casts batches to the type of the weights. With bfloat16 this would round boxes in pixels, noise levels and
targets. Here batches are not cast; ETHD casts the inputs of its network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.precision import DeepSpeedPrecision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from configs.training import TrainerConfig, WatchdogConfig
from lightning_modules.checkpoint_files import zero_ranks
from training.zero_parts import check_groups, load_part, part_of


class DeepSpeedInputsAsRead(DeepSpeedPrecision):
    """DeepSpeed's precision without casting batches, and without scaling losses: modules weigh their micro-batches."""

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        """Back-propagates a term of the loss."""
        super().backward(tensor, model, optimizer, *args, scale_wrt_gas=False, **kwargs)

    def convert_input(self, data: Any) -> Any:
        """Returns the batch unchanged."""
        return data


class ZeroStrategy(DeepSpeedStrategy):
    """DeepSpeed ZeRO-1 or ZeRO-2 that can resume on another number of ranks.

    Args:
        settings: Configuration of the trainer.
        micro_batches: Micro-batches of a global batch; 0 for one per rank.
        **others: Arguments of Lightning's strategy.
    """

    def __init__(self, settings: TrainerConfig, micro_batches: int = 0, **others: Any) -> None:
        zero = settings.deepspeed
        self.micro_batches = micro_batches
        super().__init__(
            stage=zero.stage,
            offload_optimizer=zero.offload_optimizer,
            allgather_bucket_size=zero.bucket,
            reduce_bucket_size=zero.bucket,
            logging_batch_size_per_gpu=1,  # otherwise Lightning builds another loader to determine it
            **others,
        )
        assert isinstance(self.config, dict)
        self.config["zero_force_ds_cpu_optimizer"] = False  # torch's AdamW supports the CPU too
        if zero.autocast:
            self.config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}

    def _format_batch_size_and_grad_accum_config(self) -> None:
        super()._format_batch_size_and_grad_accum_config()
        assert isinstance(self.config, dict)
        self.config["gradient_accumulation_steps"] = max(1, self.micro_batches // self.world_size)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads a checkpoint that was written by any number of ranks."""
        assert self.deepspeed_engine is not None
        self.deepspeed_engine.checkpoint_engine.load = _load_part  # DeepSpeed's own would run code of the file
        check_groups(Path(checkpoint_path), len(self.deepspeed_engine.optimizer.single_partition_of_fp32_groups))
        found = zero_ranks(Path(checkpoint_path))
        if found == self.world_size:
            return super().load_checkpoint(checkpoint_path, weights_only)
        assert self.lightning_module is not None
        engine = self.deepspeed_engine
        _, state = engine.load_checkpoint(
            checkpoint_path,
            load_optimizer_states=False,
            load_lr_scheduler_states=False,
            load_module_strict=self.lightning_module.strict_loading,
        )
        sizes = [part.numel() for part in engine.optimizer.single_partition_of_fp32_groups]
        own = part_of(Path(checkpoint_path), self.global_rank, sizes)
        engine.optimizer.load_state_dict([own] * self.world_size, load_from_fp32_weights=True)
        rank_zero_info(f"{checkpoint_path}: repartitioned the optimizer states of {found} ranks to {self.world_size}")
        return state


def _load_part(path: str, map_location: Any = None) -> dict[str, Any]:
    return load_part(Path(path))


# Tests replace it by a strategy that runs DeepSpeed's engine on the CPU, which Lightning does not support.
DEEPSPEED: type[ZeroStrategy] = ZeroStrategy


def build_strategy(settings: TrainerConfig, limits: WatchdogConfig, micro_batches: int = 0) -> str | Strategy:
    """Builds the configured strategy.

    Args:
        settings: Configuration of the trainer.
        limits: Limits of the watchdog, from which the timeout of collectives follows.
        micro_batches: Micro-batches of a global batch; 0 for one per rank.
    """
    # Longer than the watchdog's limits, because its message names the rank that hangs.
    longest = max(limits.step_minutes, limits.other_minutes)
    timeout = timedelta(minutes=1.5 * longest)
    if settings.strategy == "ddp":
        return DDPStrategy(timeout=timeout, gradient_as_bucket_view=True)  # one copy of the gradients less
    if settings.strategy == "deepspeed":
        return DEEPSPEED(settings, micro_batches, timeout=timeout)
    return settings.strategy


@contextmanager
def float32_products(precision: str, device: torch.device) -> Iterator[None]:
    """Context of the precision of float32 products, ``trainer.float32_products``, if the device is a GPU."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def precision_settings(settings: TrainerConfig) -> Mapping[str, Any]:
    """Arguments of Lightning's Trainer for the precision: a name, or a plugin that does not cast batches."""
    if settings.strategy == "deepspeed":
        return {"plugins": [DeepSpeedInputsAsRead(settings.precision)]}  # type: ignore[arg-type]
    return {"precision": settings.precision}
