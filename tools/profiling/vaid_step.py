"""Measures V-AID at the paper's size: parameters, FLOPs and seconds of each part, of a step and of sampling.

    python -m tools.profiling.vaid_step   one clip of 120 frames, on the GPU if there is one, else on one CPU core
    python -m tools.profiling.vaid_step clips=16 repeat=20

Shares refer to one run. On a GPU a training step runs under bf16 autocast, and MFU refers to PEAK below. On the CPU the
processor time of one thread is measured, so that other load on the machine does not count.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from configs.models import VAIDConfig
from configs.options import count, read_options, run_script
from datamodules.clip_windows import ClipBatch
from encoders.protocols import Identity
from lightning_modules.vaid.module import VAIDModule
from runtime.devices import inference_dtype, resolve_device
from tools.profiling.data_loader import PAPER

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, from NVIDIA's data sheets


class PartCost(NamedTuple):
    """Cost of a part: seconds of the median repetition, and floating-point operations."""

    seconds: float
    flops: int


def random_batch(clips: int, frames: int, device: torch.device) -> ClipBatch:
    """Returns a batch of noise of the paper's shapes."""
    sizes = PAPER
    return {
        "key": [f"clip{i}" for i in range(clips)],
        "draw": torch.arange(clips),
        "mask": torch.ones(clips, frames, dtype=torch.bool, device=device),
        "audio": torch.randn(clips, frames, sizes.audio_layers, sizes.audio_width, device=device).half(),
        "lip": torch.randn(clips, frames, sizes.lip_width, device=device),
        "expression": torch.randn(clips, frames, sizes.expression_width, device=device),
        "first_expression": torch.randn(clips, sizes.expression_width, device=device),
        "reference_portrait": torch.randint(0, 256, (clips, 256, 256, 3), dtype=torch.uint8, device=device),
    }


def measure(work: Callable[[], object], repeat: int, device: torch.device) -> PartCost:
    """Measures the median time over ``repeat`` runs, after one run that warms up and counts operations."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    with FlopCounterMode(display=False) as counter:
        work()
    seconds = []
    for _ in range(repeat):
        wait()
        start = clock()
        work()
        wait()
        seconds.append(clock() - start)
    return PartCost(sorted(seconds)[repeat // 2], counter.get_total_flops())


def main(clips: int = 1, frames: int = 120, repeat: int = 3) -> None:
    """Prints the tables."""
    device = torch.device(resolve_device("auto"))
    dtype = inference_dtype(device)
    torch.manual_seed(0)
    if device.type == "cpu":
        torch.set_num_threads(1)
    encoders = {"audio": Identity("wav2vec2"), "motion": Identity("pdfgc")}
    module = VAIDModule(VAIDConfig(window=frames, overlap=frames // 5), PAPER, encoders).to(device)
    vaid, batch = module.vaid, random_batch(clips, frames, device)
    mask, audio, portrait = batch["mask"], batch["audio"], batch["reference_portrait"]
    assert module.q is not None
    parts = {
        "audio_to_lip": vaid.audio_to_lip,
        "di_cte": vaid.di_cte,
        "of which identity": vaid.di_cte.identity,
        "q": module.q,
    }
    for name, part in parts.items():
        print(f"{name:20s} {sum(p.numel() for p in part.parameters()) / 1e6:8.2f} M parameters")

    optimizer = torch.optim.AdamW(module.parameters(), 1e-4, fused=device.type == "cuda")
    around = vaid.di_cte.surroundings(audio, portrait, mask)
    t = torch.full((clips,), 500, device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            loss = module.losses(batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    whole = measure(step, repeat, device)
    module.requires_grad_(False)  # only forward passes below

    def forward(work: Callable[[], object]) -> PartCost:
        with torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
            return measure(work, repeat, device)

    rows = {
        "training step": whole,
        "  audio_to_lip forward": forward(lambda: vaid.lip(audio, mask)),
        "  surroundings forward": forward(lambda: vaid.di_cte.surroundings(audio, portrait, mask)),
        "  denoiser forward": forward(lambda: vaid.di_cte(batch["expression"], t, around, batch["first_expression"])),
        "sampling, 25 steps": forward(
            lambda: vaid.sample_expression(audio, portrait, batch["first_expression"], range(clips), steps=25)
        ),
    }
    print(f"\n{clips} clips of {frames} frames on {device}")
    print(f"{'':24s}{'seconds':>10s}{'GFLOP':>10s}{'of step':>9s}{'frames/s':>12s}")
    for name, (seconds, flops) in rows.items():
        share = f"{seconds / whole.seconds:8.1%}"
        print(f"{name:24s}{seconds:10.4f}{flops / 1e9:10.1f}{share:>9s}{clips * frames / seconds:12.0f}")
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        peak = next((value for key, value in PEAK.items() if key in name), None)
        if peak:
            print(f"MFU of the step on {name}: {whole.flops / whole.seconds / peak:.1%}")


if __name__ == "__main__":
    known = dict.fromkeys(("clips", "frames", "repeat"), count)
    run_script(lambda: main(**read_options(__doc__, sys.argv[1:], known)))
