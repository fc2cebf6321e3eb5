"""How much memory one training step of ETHD's U-Net takes, and on which cards it fits, without owning one.

    python -m speed.memory                              256, 512 and 1024 px at 14, 30, 60 and 120 frames
    python -m speed.memory pixels=512 frames=40,80      other sizes

The step runs on tensors without data, so nothing is computed and every allocation is counted: weights, gradients and
activations in bfloat16 with every block checkpointed, one clip. Optimizer states come on top: float32 weights and two
moments, on one card or spread over eight (DeepSpeed ZeRO-2). What the count cannot see, the CUDA context, cuDNN's
workspaces and fragmentation, is allowed for with 2 GiB and 5 %.
"""

from __future__ import annotations

import sys
import time
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

from diffusion.schedules import zero_terminal_schedule
from diffusion.velocity import noise_input, velocity_loss
from lightning_modules.ethd.ethd import Drive, DriveWidths, Ethd
from lightning_modules.ethd.unet import UNetShape

GIB = 2**30
CARDS = (24, 48, 80, 141)  # GB, as cards are sold: their makers' GiB less what the driver keeps
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

    def on_card(self, ranks: int = 1) -> float:
        """Bytes a card must have, its share of the optimizer states and the allowances included."""
        return (self.peak + STATES * self.parameters / ranks) * 1.05 + 2 * GIB


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
        model = Ethd(shape, DriveWidths(512, 30, 12, 768), pixels, checkpointing=checkpointing)
        x0, noise = torch.randn(2, 1, frames, shape.out_channels, side, side)
        level = zero_terminal_schedule().level(torch.tensor([500]), x0)
        drive = Drive(
            boxes=torch.rand(1, 2, 4),
            e_ref=torch.randn(1, 30),
            lip=torch.randn(1, frames, 512),
            e_dri=torch.randn(1, frames, 30),
        )
        noisy = level.sqrt() * x0 + (1 - level).sqrt() * noise
        v = model(noisy, noise_input(level.flatten()), x0[:, 0, : shape.in_channels - shape.out_channels], drive)
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


def main(arguments: list[str]) -> None:
    """Prints the table."""
    options = dict(argument.split("=", 1) for argument in arguments)
    sizes = [int(size) for size in options.get("pixels", "256,512,1024").split(",")]
    lengths = [int(length) for length in options.get("frames", "14,30,60,120").split(",")]
    print("GiB of one card; 1 clip, bfloat16, every block checkpointed")
    print(f"{'px':>5} {'frames':>6} {'step':>8} {'1 card':>8}  {'fits GB':12} {'of 8':>8}  {'fits GB':12}")
    for pixels in sizes:
        for frames in lengths:
            start = time.perf_counter()
            step = training_step(pixels, frames)
            alone, shared = step.on_card(), step.on_card(8)
            print(
                f"{pixels:5} {frames:6} {step.peak / GIB:8.1f} {alone / GIB:8.1f}  {fits(alone):12} "
                f"{shared / GIB:8.1f}  {fits(shared):12} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


def fits(need: float) -> str:
    """The cards that hold ``need`` bytes."""
    return " ".join(str(card) for card in CARDS if need <= usable(card)) or "none"


def usable(card: int) -> float:
    """Bytes of a card: up to 80 GB they are binary gigabytes less what the driver keeps, 141 GB is decimal."""
    return {24: 23.5, 48: 47.4, 80: 79.1, 141: 139.8}[card] * GIB


if __name__ == "__main__":
    main(sys.argv[1:])
