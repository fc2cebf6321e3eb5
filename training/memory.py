"""How much memory one training step of ETHD's U-Net takes, counted on tensors without data.

Nothing is computed, and every allocation is counted: weights, gradients and activations in bfloat16 with every block
checkpointed, one clip. What the count cannot see, the CUDA context, cuDNN's workspaces and fragmentation, is allowed
for with 2 GiB and 5 %.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from configs.training import TrainConfig
from diffusion.parameterization import noise_input, velocity_loss
from diffusion.schedules import zero_terminal_schedule
from lightning_modules.ethd.checkpoint import unet_shape
from lightning_modules.ethd.module import EthdModule
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape

GIB = 2**30
STATES = 12  # bytes a parameter: float32 weight and Adam's two moments
DOWNSCALE = 8  # pixels to latents


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is on and still alive, on any device, with or without data.

    Attributes:
        now: bytes alive.
        peak: the most there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs the operation and counts the storages it made."""
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._alive:
            return

        def freed(_: weakref.ref) -> None:
            self.now -= size
            del self._alive[key]

        self._alive[key] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step without optimizer states, and the number of parameters."""

    peak: int
    parameters: int

    def on_card(self, ranks: int = 1, extra_bytes: float = 0.0) -> float:
        """Bytes a card must have, the allowances included.

        Args:
            ranks: that share the optimizer states (DeepSpeed ZeRO-2); 0 for states on the host.
            extra_bytes: bytes a parameter held besides, e.g. 4 for averaged weights.
        """
        states = STATES / ranks if ranks else 0.0
        return (self.peak + (states + extra_bytes) * self.parameters) * 1.05 + 2 * GIB


def training_step(pixels: int, frames: int, shape: UNetShape | None = None, checkpointing: bool = True) -> StepMemory:
    """Measures forward and backward of one clip in bfloat16.

    Args:
        pixels: side of the frames.
        frames: of the clip.
        shape: of the U-Net; SVD's by default.
        checkpointing: of the U-Net's blocks.
    """
    shape, side = shape or UNetShape(), pixels // DOWNSCALE
    with FakeTensorMode(), PeakMemory() as memory, bfloat16():
        model = Ethd(shape, SignalWidths(512, 30, 12, 768), pixels, checkpointing=checkpointing)
        x0, noise = torch.randn(2, 1, frames, shape.out_channels, side, side)
        level = zero_terminal_schedule().level(torch.tensor([500]), x0)
        signals = DrivingSignals(
            boxes=torch.rand(1, 2, 4),
            e_ref=torch.randn(1, 30),
            lip=torch.randn(1, frames, 512),
            e_dri=torch.randn(1, frames, 30),
        )
        noisy = level.sqrt() * x0 + (1 - level).sqrt() * noise
        v = model(noisy, noise_input(level.flatten()), x0[:, 0, : shape.in_channels - shape.out_channels], signals)
        velocity_loss(v, x0, noise, level).mean().backward()
        return StepMemory(memory.peak, sum(parameter.numel() for parameter in model.parameters()))


@contextmanager
def bfloat16() -> Iterator[None]:
    """New floating-point tensors are bfloat16."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def step_bytes(config: TrainConfig, module: EthdModule, ranks: int) -> float:
    """Bytes a card needs for a step of one clip after the other ranks' share is taken off, by a count without data."""
    settings, sizes = config.trainer, module.info.dimensions
    shape = unet_shape(module.config, sizes)
    step = training_step(DOWNSCALE * sizes.latent_size, config.data.window, shape, module.config.checkpointing)
    zero = settings.strategy == "deepspeed"
    sharing = (0 if settings.deepspeed.offload_optimizer else ranks) if zero else 1
    # Averaged weights lie where the optimizer's are.
    average = 4.0 / sharing if module.config.ema and sharing else 0.0
    # The count has bfloat16 weights and gradients. Float32 ones take 4 bytes more, and are the optimizer's own
    # without ZeRO's partitions.
    extra_bytes = average
    if zero and settings.deepspeed.autocast:
        extra_bytes += 4.0
    if settings.precision == "bf16-true" and not zero:
        extra_bytes -= 8.0  # bfloat16 moments and no float32 weights
    return step.on_card(sharing, extra_bytes) + (config.data.batch_size // ranks - 1) * _activations(
        step.peak, step.parameters
    )


def _activations(peak: int, parameters: int) -> float:
    """Bytes a clip's activations take: the peak without bfloat16 weights and gradients."""
    return max(0.0, peak - 4.0 * parameters)
