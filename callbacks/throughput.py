"""Training speed: step time, share of time waiting for data, peak memory, and model FLOPs utilisation (MFU).

MFU is the number of operations of forward and backward pass, without recomputation by checkpointing, divided by the
number of operations at the device's peak rate in the same time.

Shapes: B clips, F frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from datamodules.clip_windows import micro_batches
from lightning_modules.ethd.checkpoint import EthdInfo, build_ethd
from lightning_modules.ethd.module import EthdModule
from lightning_modules.ethd.network import DrivingSignals
from runtime import platforms

GIB = 2**30


class Throughput(Callback):
    """Logs averages since the last logging under ``speed/``, every ``log_every_n_steps`` steps.

    Validation and checkpoint writing are excluded.
    """

    def __init__(self) -> None:
        self._operations: Callable[[int], float] | None = None  # frames -> operations of a step of one clip
        self._restart()

    def _restart(self) -> None:
        self._began = self._ended = 0.0
        self._waited = 0.0
        self._steps, self._done = 0, 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts the operations of a step, on the rank that logs."""
        if trainer.is_global_zero and isinstance(pl_module, EthdModule) and _peak_operations(pl_module):
            self._operations = operations_of_frames(pl_module.info)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Ends the wait for the batch."""
        now = time.perf_counter()
        if self._ended:
            self._waited += now - self._ended
        else:
            self._began = now

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: STEP_OUTPUT, batch: Any, batch_idx: int
    ) -> None:
        """Starts the wait for the next batch, and logs if logging is due."""
        self._steps += 1
        peak = _peak_operations(pl_module) if self._operations is not None else None
        if peak and self._operations is not None:
            for clips, frames in (part["latent"].shape[:2] for part in micro_batches(batch)):
                self._done += clips * self._operations(frames)
        if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._ended = time.perf_counter()
            return
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)
        elapsed = time.perf_counter() - self._began
        values = {
            "speed/step_seconds": elapsed / self._steps,
            "speed/data_wait": self._waited / elapsed,
        }
        if held := peak_memory(pl_module.device):
            values["speed/peak_memory_gib"] = held / GIB
        if peak:
            values["speed/mfu"] = self._done / elapsed / peak
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step - 1)  # same step as the losses of this batch
        self._restart()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Excludes validation from the measurement."""
        self._restart()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Excludes checkpoint writing from the measurement."""
        self._restart()


def operations_of_frames(info: EthdInfo) -> Callable[[int], float]:
    """Returns frames -> operations of a training step of one clip, from the counts of two lengths.

    Per frame the work is constant, except for the attention over time, which grows with the frames: a F + b F^2.
    """
    whole = info.config.window
    half = max(1, whole // 2)
    each = step_operations(info, half) / half
    slope = (step_operations(info, whole) / whole - each) / max(1, whole - half)
    return lambda frames: frames * (each + slope * (frames - half))


def step_operations(info: EthdInfo, frames: int) -> int:
    """Floating-point operations of a training step of one clip, counted on tensors without data.

    Attention is counted as the two products it consists of. The backward pass counts twice the forward pass;
    recomputation is not counted.

    Args:
        info: Checkpoint information of the network.
        frames: F.
    """
    sizes = info.dimensions
    latents = (1, frames, sizes.latent_channels, sizes.latent_size, sizes.latent_size)
    nothing_computed = torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH)
    with ExitStack() as contexts, FlopCounterMode(display=False) as counter:
        for context in nothing_computed:
            contexts.enter_context(context)
        signals = DrivingSignals(
            boxes=torch.zeros(1, 2, 4),
            e_ref=torch.zeros(1, sizes.expression_width),
            lip=torch.zeros(1, frames, sizes.lip_width),
            e_dri=torch.zeros(1, frames, sizes.expression_width),
            e_cond=torch.zeros(1, sizes.expression_width),
            audio=torch.zeros(1, frames, sizes.audio_layers, sizes.audio_width),
        )
        network = build_ethd(info.config, sizes, info.frame_side)
        network(torch.zeros(latents), torch.zeros(1), torch.zeros(1, *latents[2:]), signals)
    return 3 * counter.get_total_flops()


def peak_memory(device: torch.device) -> int | None:
    """Peak memory in bytes: allocated memory on a GPU, else resident memory of the process; None where unknown."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else platforms.peak_memory()


def _peak_operations(module: LightningModule) -> int | None:
    """Peak operations per second of the module's device at its precision; None if unknown."""
    if module.device.type != "cuda":
        return None
    precision = str(module.trainer.precision)
    if "torch_autocast" in (getattr(module.trainer.strategy, "config", None) or {}):
        precision = "bf16-mixed"  # DeepSpeed applies autocast; Lightning's precision is then float32
    dtype = torch.bfloat16 if "bf16" in precision else torch.float16 if "16" in precision else torch.float32
    return get_available_flops(module.device, dtype)
