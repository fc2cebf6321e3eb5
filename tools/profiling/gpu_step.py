"""Measures training steps of ETHD with each trainer preset on one GPU: seconds, peak memory, MFU.

    python -m tools.profiling.gpu_step   every preset, experiment=ethd/paper, 20 steps
    python -m tools.profiling.gpu_step presets=ddp,deepspeed steps=40 profile=yes
    python -m tools.profiling.gpu_step tiny=yes presets=cpu steps=3   a test of this script on a CPU
    python -m tools.profiling.gpu_step only=ddp   one preset in this process, as JSON

Each preset runs in its own process, with DeepSpeed if the preset uses it. Weights are random and have Stable Video
Diffusion's sizes; the clip is noise. Neither affects the time. MFU is the operations that the model needs (forward and
backward, without recomputation by checkpointing) divided by the rate of bfloat16 products of 8192 x 8192 matrices,
measured in the same run. profile=yes prints the time of a step by operator and by kernel.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import Strategy
from torch.utils.data import DataLoader, Dataset

from callbacks.ema import WeightAverage
from callbacks.throughput import peak_memory, step_operations
from configs.command_line import compose
from configs.models import ExpressionConfig, LipConfig, UNetConfig, VAIDConfig
from configs.options import Readers, count, names, read_options, run_script, yes
from configs.training import TrainConfig
from datamodules.clip_windows import ClipBatch
from datamodules.schema import Dimensions, LatentStatistics
from encoders.protocols import Identity
from lightning_modules.ethd.checkpoint import EthdInfo
from lightning_modules.ethd.latents import latent_scale
from lightning_modules.ethd.module import EthdModule
from lightning_modules.vaid.network import VAID
from lightning_modules.vaid.statistics import MotionStatistics
from runtime.peak_memory import GIB
from tools.profiling.gpu_profile import ProfiledStep
from training.memory import step_bytes
from training.strategies import build_strategy, precision_settings

PRESETS = ("gpu", "ddp", "deepspeed", "deepspeed_autocast", "deepspeed_offload")
Say = Callable[[str, float, str], None]  # name, value, unit
WARM_UP = 3  # steps
SMALL_VAID = VAIDConfig(
    lip=LipConfig(width=16, depth=1, latents=2, head_width=8),
    expression=ExpressionConfig(width=16, depth=1, head_width=8, identity_widths=[8], identity_size=16),
    sampling_steps=2,
    window=8,
    overlap=2,
)
SMALL_UNET = UNetConfig(channels=[32, 32], heads=[1, 1], attention=[True, True], layers=1, token_width=8, added_width=8)


class RepeatedClip(Dataset[ClipBatch]):
    """Returns the same noise clip for every step."""

    def __init__(self, sizes: Dimensions, side: int, frames: int, steps: int) -> None:
        self.steps = steps
        latent = (sizes.latent_channels, sizes.latent_size, sizes.latent_size)
        boxes = torch.tensor([[0.3, 0.6, 0.7, 0.8], [0.2, 0.2, 0.8, 0.9]]) * side
        self.batch: ClipBatch = {
            "key": ["noise"],
            "step": 0,
            "draw": torch.zeros(1, dtype=torch.int64),
            "frames": torch.tensor([frames]),
            "mask": torch.ones(1, frames, dtype=torch.bool),
            "valid": torch.ones(1, dtype=torch.bool),
            "audio": torch.randn(1, frames, sizes.audio_layers, sizes.audio_width).half(),
            "expression": torch.randn(1, frames, sizes.expression_width),
            "reference_expression": torch.randn(1, sizes.expression_width),
            "first_expression": torch.randn(1, sizes.expression_width),
            "latent": torch.randn(1, frames, *latent).half(),
            "reference_latent": torch.randn(1, *latent).half(),
            "boxes": boxes.expand(1, frames, 2, 4),
            "reference_boxes": boxes[None],
            "reference_portrait": torch.randint(0, 256, (1, 256, 256, 3), dtype=torch.uint8),
        }

    def __len__(self) -> int:
        """Number of steps."""
        return self.steps

    def __getitem__(self, step: int) -> ClipBatch:
        """Returns the clip. Its draw index, and thereby all randomness, depends on the step."""
        batch = self.batch.copy()
        batch["step"], batch["draw"] = step, torch.tensor([step])
        return batch


class Stopwatch(Callback):
    """Measures the seconds of every step, including the device's work.

    Args:
        say: Called with name, value and unit of every step.
    """

    def __init__(self, say: Say) -> None:
        self.seconds: list[float] = []
        self._say, self._began = say, 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Starts the clock."""
        wait(pl_module.device)
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops the clock."""
        wait(pl_module.device)
        self.seconds.append(time.perf_counter() - self._began)
        self._say(f"step {len(self.seconds)}", self.seconds[-1], "s")


def module_of(config: TrainConfig, tiny: bool) -> EthdModule:
    """Returns ETHD and V-AID with random weights, at the sizes of the configuration."""
    side = 64 if tiny else 512
    vaid, sizes = random_vaid(SMALL_VAID if tiny else VAIDConfig(), tiny)
    encoders = {kind: Identity(kind) for kind in ("audio", "motion", "codec", "landmarks")}
    scale = latent_scale("svd", 0.18215, LatentStatistics((0.0,) * 4, (1.0,) * 4, 1))
    info = EthdInfo(config.model, sizes, encoders, side, scale, "random", "0" * 64)
    return EthdModule(info, vaid, config.trainer.max_steps, 1)


def random_vaid(config: VAIDConfig, tiny: bool) -> tuple[VAID, Dimensions]:
    """Returns V-AID with random weights, and the sizes of its data."""
    sizes = Dimensions(4, 8 if tiny else 64, 2 if tiny else 12, 16 if tiny else 768, 16 if tiny else 512, 30)
    vaid = VAID(config, sizes)
    ones, zeros = (1.0,), (0.0,)
    vaid.set_statistics(MotionStatistics(zeros * sizes.lip_width, ones * sizes.lip_width, zeros * 30, ones * 30))
    return vaid.eval(), sizes


def measure(
    preset: str, steps: int, frames: int, tiny: bool, profile: bool, say: Say = lambda name, value, unit: None
) -> dict[str, Any]:
    """Trains with a preset and returns the measurements.

    Args:
        preset: Trainer preset. With ``tiny`` it runs on the CPU, DeepSpeed's engine too.
        steps: Steps after those that warm up.
        frames: Frames of the window.
        tiny: Whether to train the smallest network.
        profile: Whether to profile one more step.
        say: Called with name, value and unit as soon as a value is measured.
    """
    config = configuration(preset, WARM_UP + steps + profile, frames, tiny)
    settings = config.trainer
    if tiny:
        settings.accelerator = "cpu"
    seed_everything(0, verbose=False)
    module, watch, profiled = module_of(config, tiny), Stopwatch(say), ProfiledStep(WARM_UP + steps)
    if tiny and settings.strategy == "deepspeed":
        from training.cpu_zero import CpuZeroStrategy

        strategy: str | Strategy = CpuZeroStrategy(settings)
    else:
        strategy = build_strategy(settings, config.watchdog)
    callbacks: list[Callback] = [WeightAverage(config.model.ema), watch]
    trainer = Trainer(
        accelerator=settings.accelerator, devices=1, strategy=strategy, max_steps=settings.max_steps,
        gradient_clip_val=settings.gradient_clip, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[*callbacks, profiled] if profile else callbacks,
        **precision_settings(settings),
    )  # fmt: skip
    data = RepeatedClip(module.info.dimensions, module.info.frame_side, frames, settings.max_steps)
    trainer.fit(module, DataLoader(data, batch_size=None, pin_memory=settings.accelerator == "gpu"))
    device = trainer.strategy.root_device
    measured: dict[str, Any] = {
        "preset": preset,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "profile": profiled.table,
        "shares": profiled.shares,
    }

    def note(name: str, value: float, unit: str) -> None:
        measured[name] = value
        say(name, value, unit)

    if profile:
        return measured
    timed = watch.seconds[WARM_UP:]
    note("seconds", statistics.median(timed), "s")
    note("slowest", max(timed), "s")
    note("peak_gib", (peak_memory(device) or 0) / GIB, "GiB")
    rate = bf16_rate(device, 512 if tiny else 8192)
    note("product_tflop_s", rate / 1e12, "TFLOP/s")
    note("tflop", step_operations(module.info, frames) / 1e12, "TFLOP")
    note("mfu", measured["tflop"] * 1e12 / measured["seconds"] / rate, "of the products' rate")
    note("counted_gib", step_bytes(config, module, 1) / GIB, "GiB")  # takes half a minute of a core
    return measured


def configuration(preset: str, steps: int, frames: int, tiny: bool) -> TrainConfig:
    """Configuration of a training on one device."""
    config = compose(
        "train",
        TrainConfig,
        [f"experiment=ethd/{'tiny' if tiny else 'paper'}", f"trainer={preset}", "data=folder", "data.root=none",
         "vaid=none", f"data.window={frames}", f"trainer.max_steps={steps}",
         "trainer.devices='1'", "data.batch_size=1",
         *(["trainer.strategy=auto"] if preset in ("cpu", "gpu") else [])],
    )  # fmt: skip
    if tiny:
        config.model.unet = SMALL_UNET
    return config


def bf16_rate(device: torch.device, size: int) -> float:
    """Operations per second of bfloat16 products, best of eleven."""
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(11):
        wait(device)
        began = time.perf_counter()
        a @ b
        wait(device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def wait(device: torch.device) -> None:
    """Waits for the work of a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main(arguments: list[str]) -> int:
    """Runs each preset in its own process and prints a table; returns the number of presets that failed."""
    known: Readers = {"presets": names, "steps": count, "frames": count, "tiny": yes, "profile": yes, "only": str}
    options = read_options(__doc__, arguments, known)
    tiny = options.get("tiny", False)
    steps, frames = options.get("steps", 20), options.get("frames", 8 if tiny else 120)
    if "only" in options:  # one preset, in its own process
        measured = measure(options["only"], steps, frames, tiny, profile=False)
        if options.get("profile"):
            measured |= {"profile": measure(options["only"], 1, frames, tiny, profile=True)["profile"]}
        print("measured " + json.dumps(measured))
        return 0
    print(f"{'preset':20} {'s/step':>8} {'slowest':>8} {'GiB':>6} {'counted':>8} {'TFLOP':>7} {'MFU':>6}")
    failed, profiles = 0, []
    for preset in options.get("presets", PRESETS):
        command = [sys.executable, "-m", "tools.profiling.gpu_step", *arguments, f"only={preset}"]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [line for line in done.stdout.splitlines() if line.startswith("measured ")]
        if done.returncode or not lines:
            failed += 1
            print(f"{preset:20} failed: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
            continue
        one = json.loads(lines[0].removeprefix("measured "))
        print(
            f"{preset:20} {one['seconds']:8.3f} {one['slowest']:8.3f} {one['peak_gib']:6.1f} {one['counted_gib']:8.1f} "
            f"{one['tflop']:7.1f} {one['mfu']:6.1%}   {one['device']}",
            flush=True,
        )
        profiles += [f"{preset}\n{one['profile']}"] if one["profile"] else []
    print("\n".join(profiles))
    return failed


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
