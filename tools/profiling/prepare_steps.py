"""Measures frames per second of every step of prepare.py in one process with one thread.

    python -m tools.profiling.prepare_steps source=VIDEOS [preset=small] [clips=4]

For each video it prints the rate of each step in frames per second of processor time (``prepare.py`` runs one such
process per core), and the rate of landmark detection also in wall time. Wanted: landmarks at 60 frames/s or more per
core on 512 px video.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from configs.command_line import compose
from configs.options import count, read_options, run_script
from configs.preparation import DatasetConfig, PrepareConfig
from media import FrameReader, probe
from preparation.encoders import Encoders
from preparation.layouts import find_clips
from preparation.prepare_clip import STEPS, prepare_clip


def main(arguments: list[str]) -> None:
    """Prepares each clip in this process and prints the rates of its steps."""
    options = read_options(__doc__, arguments, {"source": Path, "preset": str, "clips": count}, required=("source",))
    torch.set_num_threads(1)
    config = compose("prepare", PrepareConfig, ["dataset=folder", f"preset={options.get('preset', 'small')}"])
    encoders = Encoders.build(config.encoders, "cpu")
    clips = find_clips(DatasetConfig(name="folder", split="train"), options["source"]).clips
    print(f"frames/s by step, preset {config.preset}, one thread")
    print(f"{'clip':32s} {'size':>10s} {'frames':>6s} " + " ".join(f"{step:>9s}" for step in STEPS))
    totals = dict.fromkeys(STEPS, 0.0)
    for clip in clips[: options.get("clips", 4)]:
        info = probe(clip.path)
        report = prepare_clip(clip, encoders, config).report
        rates = " ".join(f"{report.frames / report.seconds[step]:9.0f}" for step in STEPS if step in report.seconds)
        print(
            f"{clip.name[:32]:32s} {info.width:>5d}x{info.height:<4d} {report.frames:6d} {rates}  {report.reason or ''}"
        )
        for step, seconds in report.seconds.items():
            totals[step] += seconds
    print(f"{'share of the time':50s} " + " ".join(f"{totals[step] / sum(totals.values()):9.0%}" for step in STEPS))
    print("\nlandmarks only, frames already decoded: frames per second of wall and of processor time")
    for clip in clips[: options.get("clips", 4)]:
        frames = [frame for frame, _ in zip(FrameReader(clip.path), range(200), strict=False)]
        wall, processor = time.perf_counter(), time.process_time()
        encoders.landmarks.track(frames, clip.path)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        height, width = frames[0].shape[:2]
        print(
            f"  {clip.name[:32]:32s} {width:>5d}x{height:<4d} {len(frames) / wall:6.0f} {len(frames) / processor:6.0f}"
        )


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
