"""Memory of a training step of ETHD, counted on fake tensors without computing anything.

Counts every allocation of weights, gradients and activations for one clip, with every block checkpointed: in bfloat16,
or as bf16-mixed trains, with float32 weights, gradients and autocast's bfloat16 copies of the weights. Averaged weights
and the optimizer's states are added. The count does not include the CUDA context, cuDNN's workspaces and fragmentation;
2 GiB and 5 % are added for these.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from configs.training import TrainConfig
from diffusion.parameterization import noise_input, velocity_loss
from diffusion.schedules import zero_terminal_schedule
from lightning_modules.ethd.checkpoint import unet_shape
from lightning_modules.ethd.module import EthdModule
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape
from runtime.peak_memory import PeakMemory, default_type, on_gpu

MOMENTS, MASTER, AVERAGE = 8, 4, 4  # bytes per parameter: Adam's two moments, float32 weights, averaged weights
DOWNSCALE = 8  # pixels per latent position along each side


@dataclass(frozen=True)
class StepMemory:
    """Peak bytes of a training step with weights and gradients but without states, and number of parameters."""

    peak: int
    parameters: int

    def on_gpu(self, states: float) -> float:
        """Required bytes of GPU memory with the allowances; ``states`` are further bytes per parameter."""
        return on_gpu(self.peak + states * self.parameters)


def training_step(
    pixels: int, frames: int, shape: UNetShape | None = None, checkpointing: bool = True, mixed: bool = False
) -> StepMemory:
    """Counts the memory of forward and backward pass of one clip in bfloat16.

    Gradients exist from the start, as in the buckets of DDP and DeepSpeed.

    Args:
        pixels: Side of the frames in pixels.
        frames: Number of frames.
        shape: Shape of the U-Net; None for SVD's.
        checkpointing: Whether the U-Net's blocks are checkpointed.
        mixed: Whether weights and gradients are float32 and the step runs under autocast.
    """
    shape, side = shape or UNetShape(), pixels // DOWNSCALE
    with FakeTensorMode(), PeakMemory() as memory, nullcontext() if mixed else default_type(torch.bfloat16):
        model = Ethd(shape, SignalWidths(512, 30, 12, 768), pixels, checkpointing=checkpointing)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        x0, noise = torch.randn(2, 1, frames, shape.out_channels, side, side)
        level = zero_terminal_schedule().level(torch.tensor([500]), x0)
        signals = DrivingSignals(
            boxes=torch.rand(1, 2, 4),
            e_ref=torch.randn(1, 30),
            lip=torch.randn(1, frames, 512),
            e_dri=torch.randn(1, frames, 30),
        )
        noisy = level.sqrt() * x0 + (1 - level).sqrt() * noise
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            v = model(noisy, noise_input(level.flatten()), x0[:, 0, : shape.in_channels - shape.out_channels], signals)
        velocity_loss(v, x0, noise, level).mean().backward()
        return StepMemory(memory.peak, sum(parameter.numel() for parameter in model.parameters()))


def step_bytes(config: TrainConfig, module: EthdModule, ranks: int) -> float:
    """Bytes of GPU memory that a training step needs on each rank.

    Args:
        config: Configuration of the run.
        module: Module with the configuration and dimensions of the network; its weights are not used.
        ranks: Number of ranks.
    """
    settings, sizes, model = config.trainer, module.info.dimensions, module.config
    zero = settings.strategy == "deepspeed"
    mixed = settings.deepspeed.autocast if zero else settings.precision == "bf16-mixed"
    shape = unet_shape(model, sizes)
    step = training_step(DOWNSCALE * sizes.latent_size, config.data.window, shape, model.checkpointing, mixed)
    average = AVERAGE if model.ema else 0
    if zero:  # shared by the ranks, or on the CPU
        states = 0.0 if settings.deepspeed.offload_optimizer else (MOMENTS + MASTER + average) / ranks
    elif settings.precision == "bf16-true":
        states = MOMENTS / 2 + average
    else:
        states = MOMENTS + average
    clips = config.data.micro_batch or config.data.batch_size // ranks
    return step.on_gpu(states) + (clips - 1) * _activations(step, 4 if mixed else 2)


def _activations(step: StepMemory, width: int) -> float:
    """Bytes of a clip's activations: the peak without weights and gradients of ``width`` bytes each."""
    return max(0.0, step.peak - 2.0 * width * step.parameters)
