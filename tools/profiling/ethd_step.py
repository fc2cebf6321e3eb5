"""Compares a training step of ETHD's U-Net with one of Stable Video Diffusion's in diffusers, as ratios in one run.

    python -m tools.profiling.ethd_step   at a reduced size on the CPU, a few minutes
    python -m tools.profiling.ethd_step rounds=9 frames=24   more rounds, another length
    python -m tools.profiling.ethd_step full=yes   also counts operations and memory at full size

Both networks have the same size and the same latents; diffusers uses its own gradient checkpointing. Ours additionally
has the injector's two attentions and recomputes its temporal layers. Time is the processor time of one thread, so that
other load on the machine affects both alike. Memory is that of all live tensors, including weights and gradients.
Absolute numbers differ between machines; the ratios hardly do.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from diffusers import UNetSpatioTemporalConditionModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from configs.options import count, read_options, run_script, yes
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.unet import ADDED_TIME_IDS, UNetShape
from runtime.peak_memory import GIB, PeakMemory, default_type
from training.memory import training_step

REDUCED = UNetShape(channels=(64, 128, 256, 256), heads=(1, 2, 4, 4), token_width=256, added_width=32)
WIDTHS = SignalWidths(lip=64, expression=30, audio_layers=1, audio=1)
Step = Callable[[], Tensor]
bfloat16 = partial(default_type, torch.bfloat16)


def our_step(shape: UNetShape, side: int, frames: int) -> Step:
    """Returns the loss of our U-Net as a function, ready for backward."""
    model = Ethd(shape, WIDTHS, 8 * side)
    latents, reference = torch.randn(1, frames, shape.out_channels, side, side), torch.randn(1, 4, side, side)
    signals = DrivingSignals(
        boxes=torch.tensor([[[0.3, 0.6, 0.6, 0.8], [0.1, 0.1, 0.9, 0.9]]]) * 8 * side,
        e_ref=torch.randn(1, WIDTHS.expression),
        lip=torch.randn(1, frames, WIDTHS.lip),
        e_dri=torch.randn(1, frames, WIDTHS.expression),
    )

    def loss() -> Tensor:
        model.zero_grad()
        return model(latents, torch.zeros(1), reference, signals).float().square().mean()

    return loss


def stock_step(shape: UNetShape, side: int, frames: int) -> Step:
    """Returns the loss of diffusers' U-Net with its own checkpointing as a function."""
    down = [
        "CrossAttnDownBlockSpatioTemporal" if attention else "DownBlockSpatioTemporal" for attention in shape.attention
    ]
    model: Any = UNetSpatioTemporalConditionModel(
        in_channels=shape.in_channels,
        out_channels=shape.out_channels,
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        block_out_channels=shape.channels,
        addition_time_embed_dim=shape.added_width,
        projection_class_embeddings_input_dim=len(ADDED_TIME_IDS) * shape.added_width,
        layers_per_block=shape.layers,
        cross_attention_dim=shape.token_width,
        num_attention_heads=shape.heads,
    )
    model.enable_gradient_checkpointing()
    model.train()
    latents = torch.randn(1, frames, shape.in_channels, side, side)
    token, ids = torch.randn(1, 1, shape.token_width), torch.tensor([ADDED_TIME_IDS])

    def loss() -> Tensor:
        model.zero_grad()
        return model(latents, torch.zeros(1), token, ids).sample.float().square().mean()

    return loss


def peak(build: Callable[[UNetShape, int, int], Step], shape: UNetShape, side: int, frames: int, fake: bool) -> int:
    """Peak bytes of a step, including weights and gradients."""
    with (
        FakeTensorMode() if fake else nullcontext(),
        PeakMemory() as memory,
        bfloat16() if fake else nullcontext(),
    ):
        build(shape, side, frames)().backward()
    return memory.peak


def operations(build: Callable[[UNetShape, int, int], Step], shape: UNetShape, side: int, frames: int) -> int:
    """Floating-point operations of a step's matrix products, convolutions and attention, including recomputed ones."""
    # The other kernels of attention are not counted on a CPU.
    with (
        FakeTensorMode(),
        default_type(torch.bfloat16),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        build(shape, side, frames)().backward()
    return counter.get_total_flops()


def seconds(loss: Step) -> float:
    """Processor time of a step."""
    start = time.process_time()
    loss().backward()
    return time.process_time() - start


def main(arguments: list[str]) -> None:
    """Prints the ratios of time and memory."""
    options = read_options(__doc__, arguments, {"side": count, "frames": count, "rounds": count, "full": yes})
    side, frames, rounds = options.get("side", 32), options.get("frames", 12), options.get("rounds", 5)
    torch.set_num_threads(1)
    steps = [build(REDUCED, side, frames) for build in (our_step, stock_step)]
    for loss in steps:
        seconds(loss)  # warm-up: allocates memory
    times = [[seconds(loss) for loss in steps] for _ in range(rounds)]
    ratios = sorted(ours / theirs for ours, theirs in times)
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{REDUCED.channels} channels, {frames} frames of {side} x {side}, float32, {rounds} alternating rounds")
    print(
        f"step     ours {ours:6.2f} s     diffusers {theirs:6.2f} s     ratio {statistics.median(ratios):.2f}"
        f" ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    del steps, loss
    report("memory", *(peak(build, REDUCED, side, frames, fake=False) for build in (our_step, stock_step)))
    if options.get("full"):
        print("full size, bfloat16, counted on fake tensors: operations at 24 frames, memory at 120, 512 px")
        ours, theirs = (operations(build, UNetShape(), 64, 24) for build in (our_step, stock_step))
        print(f"TFLOP    ours {ours / 1e12:6.1f}       diffusers {theirs / 1e12:6.1f}       ratio {ours / theirs:.2f}")
        print(f"TFLOP    ours {operations(our_step, UNetShape(), 64, 120) / 1e12:6.1f} at 120 frames", flush=True)
        report("memory", training_step(512, 120).peak, peak(stock_step, UNetShape(), 64, 120, fake=True))


def report(name: str, ours: int, theirs: int) -> None:
    """Prints both sizes and their ratio."""
    print(
        f"{name}   ours {ours / GIB:6.2f} GiB   diffusers {theirs / GIB:6.2f} GiB   ratio {ours / theirs:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
