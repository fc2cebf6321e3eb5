"""Counts trained frames in full windows, and the time that ranks wait for longer windows. Reads no data.

    python -m tools.profiling.window_lengths                      8 and 64 ranks
    python -m tools.profiling.window_lengths ranks=16 window=96   other sizes

The lengths of clips are random numbers that resemble a dataset: MEAD normal with mean 100 and standard deviation 25
frames, ``mead_range`` uniform from 91 to 120, which are those of the 16 clips at hand, HDTF at least 250, ``mixture``
as many clips of HDTF as of MEAD. Each rank has one clip (data.micro_batch=1).
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np

from configs.options import counts, read_options, run_script
from datamodules.clip_windows import BatchReader, Clip
from datamodules.loader import StreamDataset
from datamodules.order import LengthOrder, Order, StreamOrder
from datamodules.sample_table import SampleEntry

DATASETS = ("mead", "mead_range", "hdtf", "mixture")
WINDOW = 120
CLIPS = 12_800
SHARD = 64  # clips per shard


class WindowShares(NamedTuple):
    """Shares over one pass.

    Attributes:
        idle: Share of the ranks' time that they wait for longer windows.
        full: Share of trained frames in full windows.
        mean: Mean length of a window in frames.
    """

    idle: float
    full: float
    mean: float


def main(arguments: list[str]) -> None:
    """Prints the table."""
    options = read_options(__doc__, arguments, {"ranks": counts, "window": int})
    window = options.get("window", WINDOW)
    print(f"{'':12} {'':>6} {'one length per batch':>25} {'a length per clip':>25} {'and sorted':>25}")
    print(f"{'lengths':12} {'ranks':>6}" + 3 * f" {'full':>8}{'mean':>8}{'idle':>9}")
    for name in DATASETS:
        for ranks in options.get("ranks", [8, 64]):
            found = [
                measure(dataset_of(name, CLIPS, ranks, window=window, micro_batch=micro, sort=sort), ranks)
                for micro, sort in ((None, False), (1, False), (1, True))
            ]
            columns = (f" {one.full:8.0%}{one.mean:8.0f}{one.idle:9.1%}" for one in found)
            print(f"{name:12} {ranks:6}{''.join(columns)}", flush=True)


def measure(dataset: StreamDataset, ranks: int) -> WindowShares:
    """Counts one pass."""
    steps = range(len(dataset.clips) // dataset.batch_size)
    frames = dataset.frames_by_length(steps)
    total = sum(frames.values())
    windows = sum(count / length for length, count in frames.items())
    return WindowShares(dataset.idle_share(steps, ranks), frames[dataset.window] / total, total / windows)


def dataset_of(
    name: str, clips: int, ranks: int, *, window: int = WINDOW, micro_batch: int | None = 1, sort: bool = True
) -> StreamDataset:
    """Training data of the first rank, one clip per rank.

    Args:
        name: One of ``DATASETS``.
        clips: Number of clips.
        ranks: Number of ranks, and clips of a global batch.
        window: Frames of a training window.
        micro_batch: 1, or None for windows of one length per batch.
        sort: Whether clips of similar length are drawn together, as training does with micro-batches.
    """
    frames = lengths_of(name, clips)
    entries = [
        SampleEntry(str(i), f"{i // SHARD}.tar", int(length), "speaker", "train", {}) for i, length in enumerate(frames)
    ]
    order: Order = StreamOrder([i // SHARD for i in range(clips)], ranks, 0)
    if sort and micro_batch:
        order = LengthOrder(order, np.minimum(frames, window).tolist(), ranks, 0, clips)
    return StreamDataset(
        [Clip(entry.key, name, entry, 0) for entry in entries], order, BatchReader([], []), batch_size=ranks,
        micro_batch=micro_batch, window=window, pad=False, seed=0, ranks=ranks,
    )  # fmt: skip


def lengths_of(name: str, clips: int) -> np.ndarray:
    """(clips,) frames of each clip of a dataset."""
    random = np.random.default_rng(0)
    hdtf = random.integers(250, 376, clips)
    mead = np.clip(random.normal(100, 25, clips), 24, None).astype(int)
    lengths = {"mead": mead, "mead_range": random.integers(91, 121, clips), "hdtf": hdtf}
    return lengths[name] if name != "mixture" else np.concatenate([hdtf[: clips // 2], mead[clips // 2 :]])


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
