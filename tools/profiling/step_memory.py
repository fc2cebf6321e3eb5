"""Counts the memory of a training step of ETHD's U-Net and lists the GPUs it fits on; needs no GPU.

    python -m tools.profiling.step_memory   256, 512 and 1024 px at 14, 30, 60 and 120 frames
    python -m tools.profiling.step_memory pixels=512 frames=40,80   other sizes

The step of one clip runs on fake tensors: nothing is computed, and every allocation is counted, with every block
checkpointed. "ddp" is bf16-mixed, as trainer=gpu and trainer=ddp run: float32 weights and gradients, autocast's copies
of the weights, two moments and averaged weights on every GPU. "of 8" is trainer=deepspeed on eight GPUs: weights and
gradients in bfloat16, and float32 weights, moments and averages shared by the GPUs. 2 GiB and 5 % are added for what is
not counted: the CUDA context, cuDNN's workspaces and fragmentation.
"""

from __future__ import annotations

import sys
import time

from configs.options import counts, read_options, run_script
from runtime.peak_memory import GIB
from training.memory import AVERAGE, MASTER, MOMENTS, training_step

GPUS = (24, 48, 80, 141)  # memory in GB, as advertised


def main(arguments: list[str]) -> None:
    """Prints the table."""
    options = read_options(__doc__, arguments, {"pixels": sides, "frames": counts})
    sizes, lengths = options.get("pixels", [256, 512, 1024]), options.get("frames", [14, 30, 60, 120])
    print("GiB per GPU; 1 clip, every block checkpointed")
    print(f"{'px':>5} {'frames':>6} {'ddp':>8}  {'fits GB':12} {'of 8':>8}  {'fits GB':12}")
    for pixels in sizes:
        for frames in lengths:
            start = time.perf_counter()
            alone = training_step(pixels, frames, mixed=True).on_gpu(MOMENTS + AVERAGE)
            shared = training_step(pixels, frames).on_gpu((MOMENTS + MASTER + AVERAGE) / 8)
            print(
                f"{pixels:5} {frames:6} {alone / GIB:8.1f}  {fits(alone):12} "
                f"{shared / GIB:8.1f}  {fits(shared):12} ({time.perf_counter() - start:.0f} s)",
                flush=True,
            )


def sides(value: str) -> list[int]:
    """Parses sides of frames. Latents are 8 times smaller, and the U-Net halves them three times."""
    found = counts(value)
    if any(side % 64 for side in found):
        raise ValueError("expected multiples of 64")
    return found


def fits(need: float) -> str:
    """Returns the GPUs that have ``need`` bytes."""
    return " ".join(str(size) for size in GPUS if need <= usable(size)) or "none"


def usable(size: int) -> float:
    """Returns the usable bytes of a GPU of ``size`` GB.

    Up to 80 GB the advertised size is binary, 141 GB is decimal. The driver keeps some of it.
    """
    return {12: 11.6, 16: 15.7, 24: 23.5, 48: 47.4, 80: 79.1, 141: 139.8}[size] * GIB


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
