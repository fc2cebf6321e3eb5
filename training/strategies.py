"""How the ranks share the work: DDP, or DeepSpeed's ZeRO-1 and ZeRO-2, and in which precision.

Lightning casts a batch to bfloat16 where weights are; boxes in pixels, noise levels and targets would be rounded with
it. Here batches stay as they were read, and ETHD casts what enters its network.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.precision import DeepSpeedPrecision, HalfPrecision, Precision
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info

from configs.training import TrainerConfig, WatchdogConfig
from lightning_modules.checkpoint_files import zero_ranks
from training.zero_parts import part_of


class DeepSpeedInputsAsRead(DeepSpeedPrecision):
    """DeepSpeed's precision; batches stay as they were read."""

    def convert_input(self, data: Any) -> Any:
        """The same batch."""
        return data


class HalfInputsAsRead(HalfPrecision):
    """Weights in bfloat16; batches stay as they were read."""

    def convert_input(self, data: Any) -> Any:
        """The same batch."""
        return data


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO-1 or ZeRO-2 as the configuration has it.

    Args:
        settings: the trainer's part of it.
        **others: of Lightning's strategy.
    """

    def __init__(self, settings: TrainerConfig, **others: Any) -> None:
        zero = settings.deepspeed
        super().__init__(
            stage=zero.stage,
            offload_optimizer=zero.offload_optimizer,
            allgather_bucket_size=zero.bucket,
            reduce_bucket_size=zero.bucket,
            logging_batch_size_per_gpu=1,  # else Lightning builds the loader once more to ask it
            **others,
        )
        assert isinstance(self.config, dict)
        self.config["zero_force_ds_cpu_optimizer"] = False  # torch's own AdamW computes on the host as well
        if zero.autocast:
            self.config["torch_autocast"] = {"enabled": True, "dtype": "bfloat16"}

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Weights, optimizer's states and everything else, whatever the number of ranks that wrote them."""
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
        rank_zero_info(f"{checkpoint_path}: the optimizer's states of {found} ranks go to {self.world_size}")
        return state


# Tests put DeepSpeed's engine on the CPU in its place, which Lightning's strategy refuses.
DEEPSPEED: type[ZeroStrategy] = ZeroStrategy


def build_strategy(settings: TrainerConfig, limits: WatchdogConfig) -> str | Strategy:
    """The strategy a configuration names."""
    # The watchdog, which names what stands still, comes first.
    longest = max(limits.step_minutes, limits.other_minutes)
    timeout = timedelta(minutes=1.5 * longest)
    if settings.strategy == "ddp":
        return DDPStrategy(timeout=timeout)
    if settings.strategy == "deepspeed":
        return DEEPSPEED(settings, timeout=timeout)
    return settings.strategy


def precision_settings(settings: TrainerConfig) -> Mapping[str, Any]:
    """What Lightning's Trainer is told of the precision: a name, or a plugin that leaves batches alone."""
    plugin: Precision | None = None
    if settings.strategy == "deepspeed":
        plugin = DeepSpeedInputsAsRead(settings.precision)  # type: ignore[arg-type]
    elif settings.precision == "bf16-true":
        plugin = HalfInputsAsRead("bf16-true")
    return {"precision": settings.precision} if plugin is None else {"plugins": [plugin]}
