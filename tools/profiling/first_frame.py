"""Measures how long a video's first frame takes: in windows that are denoised, and in seconds.

    python -m tools.profiling.first_frame                                66 s of speech, 10 and 25 steps
    python -m tools.profiling.first_frame seconds=66 steps=25 window=60  other settings
    python -m tools.profiling.first_frame ethd=RUN portrait=face.png speech=voice.wav seconds=66 steps=10

Windows have 120 frames, unless ``window`` says otherwise. They are counted with the sampler and a network that does
nothing. With a run, a video is sampled and decoded: the speech is repeated to the length. Decoding after the sampling
would show the first frame after the last step.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from configs.options import Readers, count, counts, read_options, run_script, whole
from diffusion.long_sampling import sample_in_order
from diffusion.schedules import zero_terminal_schedule
from diffusion.windows import window_starts
from encoders.protocols import FPS
from generation.batch import VideoCase
from generation.model_files import ModelFiles
from lightning_modules.ethd.sampler import VideoProgress
from tools.profiling.long_video import write_repeated


def windows_before(frames: int, window: int, overlap: int, steps: int) -> tuple[int, int]:
    """Steps of windows that are computed before the first frame is final, and those of the whole video."""
    counted = 0

    def predict(x: torch.Tensor, t: torch.Tensor, where: slice) -> torch.Tensor:
        nonlocal counted
        counted += 1
        return x

    noise = torch.zeros(1, frames, 1)
    next(sample_in_order(predict, noise, zero_terminal_schedule(), steps, window, overlap))
    return counted, steps * len(window_starts(frames, window, overlap))


def timed(options: dict[str, str], frames: int, steps: int, window: int, overlap: int) -> tuple[float, float, float]:
    """Seconds after which the first frame, the last step and the last frame were there, from the first step on."""
    pipeline = ModelFiles(options["ethd"], device=options.get("device", "auto")).load()
    sampled = 0.0

    def on_progress(progress: VideoProgress) -> None:
        nonlocal sampled
        if progress.done == progress.total:
            sampled = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_repeated(Path(options["speech"]), speech, frames)
        case = VideoCase(
            Path(options["portrait"]), speech, Path(folder) / "out.mp4", steps=steps, window=window, overlap=overlap
        )
        prepared = pipeline.prepare(case)
        start = time.perf_counter()
        made = pipeline.frames(prepared, on_progress)
        next(made)
        first = time.perf_counter() - start
        for _ in made:
            pass
        return first, sampled, time.perf_counter() - start


def main(arguments: list[str]) -> None:
    """Prints a line for each number of steps."""
    known: Readers = {"seconds": count, "steps": counts, "window": count, "overlap": whole}
    known = {**known, "ethd": str, "portrait": str, "speech": str, "device": str}
    options = read_options(__doc__, arguments, known)
    window = options.get("window", 120)
    frames, overlap = options.get("seconds", 66) * FPS, options.get("overlap", round(window / 5))
    print(f"{frames} frames, windows of {window} that share {overlap}")
    for steps in options.get("steps", [10, 25]):
        first, total = windows_before(frames, window, overlap, steps)
        print(f"{steps:3} steps: first frame after {first} of {total} steps of windows", flush=True)
        if "ethd" in options:
            seconds = timed(options, frames, steps, window, overlap)
            print("     first frame {:.1f} s, last step {:.1f} s, last frame {:.1f} s".format(*seconds), flush=True)


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
