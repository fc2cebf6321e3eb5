"""Compares the memory of a long generated video with a short one, each in its own process.

    python -m tools.profiling.long_video ethd=RUN portrait=face.png speech=voice.wav
    python -m tools.profiling.long_video ethd=RUN portrait=face.png speech=voice.wav frames=120,1500 steps=2 device=cuda

The speech is repeated to each length. Printed are the peak of all tensors after the networks are loaded, the growth of
the process after that, and the peak of the GPU if there is one. A long video may take the memory of a short one, plus
5 % and 192 KiB of host memory per additional frame.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from configs.options import Readers, count, counts, read_options, run_script
from datamodules.schema import SAMPLES_PER_FRAME
from encoders.protocols import SAMPLE_RATE
from generation.batch import VideoCase
from generation.model_files import ModelFiles
from media import read_sound
from runtime.peak_memory import PeakMemory

MIB, KIB = 2**20, 2**10
PER_FRAME = 192 * KIB
ALLOWED = 1.05


@dataclass(frozen=True)
class Peak:
    """Peak bytes and duration of one video.

    Attributes:
        frames: Number of frames.
        tensors: Peak of all tensors on any device, without the networks.
        process: Growth of the process after the networks were loaded.
        device: Peak of the GPU, including networks; 0 without a GPU.
        seconds: Duration of the generation.
    """

    frames: int
    tensors: int
    process: int
    device: int
    seconds: float


def measure(options: dict[str, str], frames: int) -> Peak:
    """Generates one video of ``frames`` frames in this process and measures it."""
    torch.set_num_threads(int(options.get("threads", "1")))
    pipeline = ModelFiles(options["ethd"], device=options.get("device", "auto")).load()
    with tempfile.TemporaryDirectory() as folder:
        speech = Path(folder) / "speech.wav"
        write_repeated(Path(options["speech"]), speech, frames)
        steps = int(options.get("steps", "2"))
        case = VideoCase(Path(options["portrait"]), speech, Path(folder) / "out.mp4", steps=steps)
        before, start = _resident(), time.perf_counter()
        with PeakMemory() as memory:
            made = pipeline.generate(case)
        spent = time.perf_counter() - start
    assert made.frames == frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    device = torch.cuda.max_memory_allocated() if pipeline.device.type == "cuda" else 0
    return Peak(frames, memory.peak, max(0, peak - before), device, spent)


def write_repeated(speech: Path, output: Path, frames: int) -> None:
    """Writes the speech repeated to the length of ``frames`` frames."""
    sound = np.resize(read_sound(speech, rate=SAMPLE_RATE), frames * SAMPLES_PER_FRAME)
    with av.open(str(output), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        samples = (sound * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def allowed(short: int, frames: int) -> float:
    """Bytes allowed for a video with ``frames`` more frames than one that took ``short`` bytes."""
    return ALLOWED * short + PER_FRAME * frames


def _resident() -> int:
    """Current resident bytes of the process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def main(arguments: list[str]) -> None:
    """Prints the table and the growth per frame."""
    known: Readers = {"ethd": str, "portrait": str, "speech": str, "device": str}
    known = {**known, "frames": counts, "steps": count, "threads": count}
    options = read_options(__doc__, arguments, known, required=("ethd", "portrait", "speech"))
    lengths = options.get("frames", [120, 1500])
    print(f"{'frames':>7} {'tensors MiB':>12} {'process MiB':>12} {'device MiB':>11} {'seconds':>8}")
    peaks = []
    for frames in lengths:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peak = pool.apply(measure, (options, frames))
        peaks.append(peak)
        print(
            f"{frames:7} {peak.tensors / MIB:12.1f} {peak.process / MIB:12.1f} {peak.device / MIB:11.1f} "
            f"{peak.seconds:8.1f}",
            flush=True,
        )
    first, last = peaks[0], peaks[-1]
    more = last.frames - first.frames
    for name in ("tensors", "process"):
        short, long = getattr(first, name), getattr(last, name)
        print(
            f"{name}: {(long - short) / more / KIB:.1f} KiB for each of {more} more frames; {long / MIB:.1f} of "
            f"{allowed(short, more) / MIB:.1f} MiB allowed"
        )
    if first.device:
        print(f"device: {last.device / first.device:.2f} of {first.frames} frames' (allowed {ALLOWED})")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
