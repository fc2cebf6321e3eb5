"""Measures one row of ``gpu_hour.sh`` on a GPU with random weights and prints its values; needs no network.

    python -m tools.profiling.gpu_rows row=ROW   step, sample, profile, compile, vaid, vae, px1024 or zero2
    python -m tools.profiling.gpu_rows row=step reduced=yes   the smallest networks, on a CPU

Every value is printed as soon as it is measured, one on a line: row, name, value, unit, and the aim if it has one.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from callbacks.throughput import peak_memory
from configs.models import VAIDConfig
from configs.options import read_options, run_script, yes
from lightning_modules.ethd.network import DrivingSignals, Ethd, SignalWidths
from lightning_modules.ethd.sampler import Sampler
from lightning_modules.ethd.unet import UNetShape
from runtime.devices import device_name, resolve_device
from runtime.peak_memory import GIB
from tools.profiling import gpu_profile, gpu_regions, gpu_step, vaid_step
from training.memory import AVERAGE, MOMENTS, training_step

SMALL = UNetShape(channels=(32, 32), heads=(1, 1), attention=(True, True), layers=1, token_width=8, added_width=8)
AIMS = {"seconds": 1.5, "peak_gib": 70.0}  # of the step on an H100 or H200
LARGEST_OTHER = 0.10  # aim for the share of an operator that is no product, convolution or attention


class Rows:
    """Measurements on a device, at full or reduced size.

    Args:
        row: Name of the row, for the printed lines.
        reduced: Whether to use the smallest networks and the CPU.
    """

    def __init__(self, row: str, reduced: bool) -> None:
        self.row, self.reduced = row, reduced
        self.device = torch.device("cpu" if reduced else resolve_device("auto"))
        self.frames, self.repeat = (4, 2) if reduced else (120, 5)

    def say(self, name: str, value: float, unit: str, aim: float | None = None) -> None:
        """Prints a value, and whether it is at most ``aim``; the smallest networks are not judged."""
        verdict = "" if self.reduced else ": met" if aim is not None and value <= aim else ": missed"
        judged = "" if aim is None else f"   aim <= {aim:g}{verdict}"
        print(f"{self.row:8} {name:36} {value:10.4f} {unit}{judged}", flush=True)

    def seconds(self, work: Callable[[], Any]) -> float:
        """Median time of a call after one that warms up."""
        times = []
        for _ in range(self.repeat + 1):
            gpu_step.wait(self.device)
            began = time.perf_counter()
            work()
            gpu_step.wait(self.device)
            times.append(time.perf_counter() - began)
        return sorted(times[1:])[self.repeat // 2]

    def step(self) -> None:
        """The bf16 step of ETHD at 512 px x 120, its memory and the counted one, and its MFU."""
        self._steps("gpu")

    def zero2(self) -> None:
        """The same step under DeepSpeed's ZeRO-2 on one GPU."""
        self._steps("deepspeed")

    def _steps(self, preset: str) -> None:
        say = lambda name, value, unit: self.say(name, value, unit, AIMS.get(name))  # noqa: E731
        gpu_step.measure(preset, self.repeat, self.frames, self.reduced, profile=False, say=say)

    def profile(self) -> None:
        """Time of a step by kind of work, by operator and by kernel."""
        found = gpu_step.measure("gpu", 1, self.frames, self.reduced, profile=True)
        for name, share in list(found["shares"].items())[:12]:
            self.say(name, share, "of the step", None if name in gpu_profile.KINDS else LARGEST_OTHER)
        print(found["profile"], flush=True)

    def sample(self) -> None:
        """Sampling of one window, without decoding."""
        config = gpu_step.configuration("cpu", 1, self.frames, self.reduced)
        module = gpu_step.module_of(config, self.reduced)
        sizes = module.info.dimensions
        sampler = Sampler(module.ethd, module.info, None, self.device)  # type: ignore[arg-type]  # nothing is decoded
        count = 2 if self.reduced else config.model.sampling_steps
        settings, _ = sampler.settings(0, count, self.frames, 0)
        signals = _signals(SignalWidths(sizes.lip_width, 30, 1, 1), self.frames, module.info.frame_side)
        reference = torch.randn(1, sizes.latent_channels, sizes.latent_size, sizes.latent_size)
        times = [time.perf_counter()]
        sampler.sample(reference, signals, self.frames, settings, lambda done: times.append(time.perf_counter()))
        self.say(f"window of {self.frames}, {count} steps", times[-1] - times[0], "s")
        self.say("first step", times[1] - times[0], "s")
        self.say("every other step", (times[-1] - times[1]) / (count - 1), "s")
        self.say("peak", (peak_memory(self.device) or 0) / GIB, "GiB")

    def compile(self) -> None:
        """Each segment of the U-Net on its largest grid, forward and backward, as it is and compiled."""
        network, work = self._network(8 * 64, self.frames)
        failed = 0
        for segment in gpu_regions.segments(network, work):
            self.say(segment.name, self.seconds(segment.work()), "s")
            compiled = segment.work(compiled=True)
            began = time.perf_counter()
            try:
                compiled()
            except Exception as error:  # the compiler's; the other segments are measured all the same
                failed += 1
                print(f"{self.row:8} {segment.name}: not compiled, {type(error).__name__}", flush=True)
                traceback.print_exception(error)
                continue
            self.say(f"{segment.name}, compiling", time.perf_counter() - began, "s")
            self.say(f"{segment.name}, compiled", self.seconds(compiled), "s")
        if failed:
            raise SystemExit(1)

    def vaid(self) -> None:
        """e_a in 25 float32 steps as in ETHD's step, and V-AID's training step."""
        config = gpu_step.SMALL_VAID if self.reduced else VAIDConfig()
        network, sizes = gpu_step.random_vaid(config, self.reduced)
        network.to(self.device)
        audio = torch.randn(1, self.frames, sizes.audio_layers, sizes.audio_width, device=self.device)
        portrait = torch.zeros(1, 256, 256, 3, dtype=torch.uint8, device=self.device)
        e_cond = torch.zeros(1, sizes.expression_width, device=self.device)
        work = lambda: network.sample_expression(audio, portrait, e_cond, [0], steps=25)  # noqa: E731
        self.say("e_a, 25 steps", self.seconds(work), "s")
        vaid_step.main(clips=1, frames=8 if self.reduced else 120, repeat=1 if self.reduced else 5)

    @torch.inference_mode()
    def vae(self) -> None:
        """SVD's VAE at its own size, 16 frames of 512 px: encoding and decoding, per frame."""
        from diffusers import AutoencoderKLTemporalDecoder

        channels, side = ((32,) * 4, 64) if self.reduced else ((128, 256, 512, 512), 512)
        count = 2 if self.reduced else 16
        vae: Any = AutoencoderKLTemporalDecoder(
            block_out_channels=channels, layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4
        )
        vae = vae.to(self.device).eval()
        for dtype in (torch.float32, torch.bfloat16):  # the codec uses float32; bfloat16 shows what that costs
            pixels = torch.randn(count, 3, side, side, device=self.device, dtype=dtype)
            vae.to(dtype=dtype)
            name = str(dtype).removeprefix("torch.")
            self.say(f"encode a frame, {name}", self.seconds(partial(vae.encode, pixels)) / count, "s")
            latents = vae.encode(pixels).latent_dist.mode()
            decode = partial(vae.decode, latents, num_frames=count)
            self.say(f"decode a frame, {name}", self.seconds(decode) / count, "s")

    def px1024(self) -> None:
        """Forward and backward pass at 1024 px x 24."""
        frames = 2 if self.reduced else 24
        _, work = self._network(8 * 128, frames)
        self.say(f"forward and backward, {frames} frames", self.seconds(work), "s")
        self.say("peak, without states", (peak_memory(self.device) or 0) / GIB, "GiB")
        counted = training_step(1024, frames, SMALL if self.reduced else None, mixed=True)
        self.say("counted, with states", counted.on_gpu(MOMENTS + AVERAGE) / GIB, "GiB")

    def _network(self, pixels: int, frames: int) -> tuple[Ethd, Callable[[], None]]:
        """A network, and its forward and backward pass."""
        shape, widths = (SMALL if self.reduced else UNetShape()), SignalWidths(512, 30, 1, 1)
        side = 16 if self.reduced else pixels // 8
        network = Ethd(shape, widths, pixels).to(self.device)
        latents = torch.randn(1, frames, 4, side, side, device=self.device)
        signals = _signals(widths, frames, pixels, self.device)
        level = torch.zeros(1, device=self.device)

        def work() -> None:
            network.zero_grad()
            with gpu_regions.autocast(self.device):
                loss: Tensor = network(latents, level, latents[:, 0], signals).float().square().mean()
            if torch.is_grad_enabled():
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


ROWS: dict[str, Callable[[Rows], None]] = {
    each.__name__: each
    for each in (Rows.step, Rows.sample, Rows.profile, Rows.compile, Rows.vaid, Rows.vae, Rows.px1024,
                 Rows.zero2)
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Measures a row."""
    options = read_options(__doc__, arguments, {"row": _row, "reduced": yes})
    torch.manual_seed(0)
    rows = Rows(options.get("row", "step"), options.get("reduced", False))
    print(f"{rows.row:8} {device_name(rows.device)}, torch {torch.__version__}, {rows.frames} frames", flush=True)
    ROWS[rows.row](rows)


def _row(value: str) -> str:
    if value not in ROWS:
        raise ValueError(f"expected one of {', '.join(ROWS)}")
    return value


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
