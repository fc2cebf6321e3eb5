"""Measures one row of ``gpu_hour.sh`` on a GPU with random weights and prints its values; needs no network.

    python -m tools.profiling.gpu_rows row=step   a row: step, sample, profile, compile, vaid, vae, px1024, zero2
    python -m tools.profiling.gpu_rows row=step reduced=yes   the smallest networks, on a CPU

Every value is printed as it is measured, one on a line: row, name, value, unit.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from callbacks.throughput import peak_memory
from configs.command_line import compose
from configs.options import read_options, run_script, yes
from configs.training import EthdConfig, TrainConfig
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.sampler import Sampler
from lightning_modules.ethd.transformer import SpatioTemporalTransformer
from lightning_modules.ethd.unet import UNetShape, VideoResidualBlock
from runtime.devices import resolve_device
from tools.profiling import gpu_step, vaid_step
from training.memory import AVERAGE, GIB, MOMENTS, training_step

SMALL = UNetShape(channels=(32, 32), heads=(1, 1), attention=(True, True), layers=1, token_width=8, added_width=8)


class Rows:
    """Measurements on a device, at full or reduced size."""

    def __init__(self, row: str, reduced: bool) -> None:
        self.row, self.reduced = row, reduced
        self.device = torch.device("cpu" if reduced else resolve_device("auto"))
        self.frames, self.repeat = (4, 2) if reduced else (120, 5)

    def say(self, name: str, value: float, unit: str) -> None:
        """Prints a value."""
        print(f"{self.row:8} {name:36} {value:10.4f} {unit}", flush=True)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Median time of a call after one that warms up."""
        times = []
        for _ in range(self.repeat + 1):
            gpu_step._wait(self.device)
            began = time.perf_counter()
            work()
            gpu_step._wait(self.device)
            times.append(time.perf_counter() - began)
        return sorted(times[1:])[self.repeat // 2]

    def step(self) -> None:
        """The bf16 step of ETHD at 512 px x 120, its memory against the count, and its MFU."""
        self._preset("cpu" if self.reduced else "gpu")

    def zero2(self) -> None:
        """The same step under DeepSpeed's ZeRO-2 on one GPU; at reduced size the CPU's preset, without DeepSpeed."""
        self._preset("cpu" if self.reduced else "deepspeed")

    def _preset(self, preset: str) -> None:
        found = gpu_step.measure(preset, self.repeat, self.frames, self.reduced, profile=False)
        units = {"seconds": "s", "slowest": "s", "peak_gib": "GiB", "counted_gib": "GiB", "tflop": "TFLOP", "mfu": ""}
        for name, unit in units.items():
            self.say(name, found[name], unit)

    def profile(self) -> None:
        """Time of a step by kernel."""
        found = gpu_step.measure("cpu" if self.reduced else "gpu", 1, self.frames, self.reduced, profile=True)
        print("\n".join(line[:120] for line in found["profile"].splitlines()[: 9 if self.reduced else 40]), flush=True)

    def sample(self) -> None:
        """Sampling of one window, without decoding."""
        config = compose("train", TrainConfig, ["experiment=ethd/paper", "data.root=none", "vaid=none"])
        if self.reduced:
            config.model.unet = gpu_step.SMALL_UNET
        module = gpu_step.module_of(config, self.reduced).to(self.device)
        sizes = module.info.dimensions
        sampler = Sampler(module.ethd, module.info, None, self.device)  # type: ignore[arg-type]  # nothing is decoded
        steps = 2 if self.reduced else EthdConfig().sampling_steps
        settings, _ = sampler.settings(0, steps, self.frames, 0)
        signals = _signals(SignalWidths(sizes.lip_width, 30, 1, 1), self.frames, module.info.frame_side)
        reference = torch.randn(1, sizes.latent_channels, sizes.latent_size, sizes.latent_size)
        began = time.perf_counter()
        sampler.sample(reference, signals, self.frames, settings)
        taken = time.perf_counter() - began
        self.say(f"window of {self.frames}, {steps} steps", taken, "s")
        self.say("one step", taken / steps, "s")
        self.say("peak", (peak_memory(self.device) or 0) / GIB, "GiB")

    def compile(self) -> None:
        """Forward and backward pass, before and after compiling the segments of the U-Net's blocks."""
        network, work = self._network(8 * 64, self.frames)
        self.say("eager", self.seconds(work), "s")
        for block in network.unet.modules():
            names: tuple[str, ...] = ("_over_space", "_over_time") if isinstance(block, VideoResidualBlock) else ()
            if isinstance(block, SpatioTemporalTransformer):
                names = ("_project", "_attend_space", "_blend")
                for part in (block.transformer_blocks[0], block.temporal_transformer_blocks[0]):
                    part.feed = torch.compile(part.feed)  # type: ignore[assignment, arg-type]
            for name in names:
                setattr(block, name, torch.compile(getattr(block, name)))
        began = time.perf_counter()
        work()
        self.say("compiling", time.perf_counter() - began, "s")
        self.say("compiled", self.seconds(work), "s")

    def vaid(self) -> None:
        """V-AID's training step, and e_a in 25 steps."""
        vaid_step.main(clips=1, frames=8 if self.reduced else 120, repeat=1 if self.reduced else 5)

    def vae(self) -> None:
        """SVD's VAE in its own size: encoding and decoding of 16 frames at 512 px, per frame."""
        from diffusers import AutoencoderKLTemporalDecoder

        channels, side = ((32,) * 4, 64) if self.reduced else ((128, 256, 512, 512), 512)
        count = 2 if self.reduced else 16
        vae: Any = AutoencoderKLTemporalDecoder(
            block_out_channels=channels, layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4
        )
        vae = vae.to(self.device, torch.float32 if self.reduced else torch.bfloat16).eval().requires_grad_(False)
        pixels = torch.randn(count, 3, side, side, device=self.device, dtype=vae.dtype)
        latents = vae.encode(pixels).latent_dist.mode()
        self.say("encode, per frame", self.seconds(lambda: vae.encode(pixels)) / count, "s")
        self.say("decode, per frame", self.seconds(lambda: vae.decode(latents, num_frames=count)) / count, "s")

    def px1024(self) -> None:
        """Forward and backward pass at 1024 px x 24."""
        frames = 2 if self.reduced else 24
        _, work = self._network(8 * 128, frames)
        self.say(f"forward and backward, {frames} frames", self.seconds(work), "s")
        self.say("peak", (peak_memory(self.device) or 0) / GIB, "GiB")
        if not self.reduced:
            counted = training_step(1024, frames, mixed=True)
            self.say("counted, with states", counted.on_gpu(MOMENTS + AVERAGE) / GIB, "GiB")

    def _network(self, pixels: int, frames: int) -> tuple[Ethd, Callable[[], None]]:
        """A network and its forward and backward pass."""
        shape, widths = (SMALL if self.reduced else UNetShape()), SignalWidths(512, 30, 1, 1)
        side = 16 if self.reduced else pixels // 8
        network = Ethd(shape, widths, pixels).to(self.device)
        latents = torch.randn(1, frames, 4, side, side, device=self.device)
        signals = _signals(widths, frames, pixels, self.device)
        level = torch.zeros(1, device=self.device)

        def work() -> None:
            network.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16):
                loss: Tensor = network(latents, level, latents[:, 0], signals).float().square().mean()
            loss.backward()

        return network, work


def _signals(widths: SignalWidths, frames: int, pixels: int, device: torch.device | str = "cpu") -> DrivingSignals:
    boxes = torch.tensor([[[0.3, 0.6, 0.7, 0.8], [0.2, 0.2, 0.8, 0.9]]], device=device) * pixels
    return DrivingSignals(
        boxes=boxes,
        e_ref=torch.randn(1, widths.expression, device=device),
        lip=torch.randn(1, frames, widths.lip, device=device),
        e_dri=torch.randn(1, frames, widths.expression, device=device),
    )


def main(arguments: list[str]) -> None:
    """Measures a row."""
    options = read_options(__doc__, arguments, {"row": str, "reduced": yes})
    row = options.get("row", "step")
    known = [name for name, value in vars(Rows).items() if callable(value) and name not in ("say", "seconds")]
    if row not in known or row.startswith("_"):
        raise ValueError(f"row={row}: expected one of {', '.join(name for name in known if not name.startswith('_'))}")
    torch.manual_seed(0)
    getattr(Rows(row, options.get("reduced", False)), row)()


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
