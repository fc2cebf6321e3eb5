"""Compares the time to plan clips by the headers of their files with the time to read all packets.

    python -m tools.profiling.plan_times source=VIDEOS [clips=300]

The videos are repeated until there are ``clips`` of them. Both ways run once to start their processes, then in turn.
Processor time includes the child processes. Wanted: a tenth of the time.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import psutil

from configs.command_line import compose
from configs.options import count, read_options, run_script
from configs.preparation import DatasetConfig, PrepareConfig
from datamodules.schema import Dimensions
from preparation.clip_source import ClipSource
from preparation.layouts import find_clips
from preparation.plan import BATCH, make_plan

DIMENSIONS = Dimensions(48, 16, 4, 80, 12, 13)  # of preset tiny; the time does not depend on them


def main(arguments: list[str]) -> None:
    """Plans the clips in both ways and prints wall and processor times."""
    options = read_options(__doc__, arguments, {"source": Path, "clips": count}, required=("source",))
    config = compose("prepare", PrepareConfig, ["dataset=folder", "preset=tiny"])
    found = find_clips(DatasetConfig(name="folder", split="train"), options["source"]).clips
    repeated = itertools.islice(itertools.cycle(found), options.get("clips", 300))
    clips = [replace(clip, key=f"{clip.key}-{number}") for number, clip in enumerate(repeated)]
    print(f"{len(clips)} clips of {len(found)} videos", flush=True)
    _plan(config, clips[: 2 * BATCH])
    headers = _timed("headers", lambda: _plan(config, clips))
    with patch("preparation.header_lengths.look_at_headers", lambda paths, limits: [None] * len(paths)):
        packets = _timed("packets", lambda: _plan(config, clips))
    print(f"ratio    wall {packets[0] / headers[0]:.1f}, processor {packets[1] / headers[1]:.1f}")


def _plan(config: PrepareConfig, clips: list[ClipSource]) -> None:
    make_plan(config, clips, DIMENSIONS)


def _timed(name: str, work: Callable[[], None]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), _processor()
    work()
    wall, processor = time.perf_counter() - wall, _processor() - processor
    print(f"{name:8s} wall {wall:.2f} s, processor {processor:.2f} s", flush=True)
    return wall, processor


def _processor() -> float:
    """Processor time of this process and of its children, those that have ended included, seconds."""
    return time.process_time() + sum(sum(child.cpu_times()[:4]) for child in psutil.Process().children(recursive=True))


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
