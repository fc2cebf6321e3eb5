"""Measures time and memory to open the index of many clips.

    python -m tools.profiling.index_times folder=FOLDER [clips=100000]

It writes an index of clips that do not exist, and opens it in a new process: ``read`` maps and checks the files,
``check`` compares all entries, and ``training`` sets up the data module and its order. Memory is what the process has
more than after its imports, in resident pages, with Arrow and the pages of the file. Wanted for 100,000 clips: read and
check in less than 1 s and 60 MiB.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from configs.options import count, read_options, run_script
from datamodules.index_checks import check_index
from datamodules.remote import read_index
from datamodules.sample_table import SampleEntry, SampleTable
from datamodules.schema import Dimensions, Index, LatentStatistics, ShardEntry, array_layout
from encoders.protocols import Identity

PAPER = Dimensions(4, 64, 12, 768, 512, 30)
PER_SHARD = 20


def main(arguments: list[str]) -> None:
    """Writes the index, and opens it in another process."""
    options = read_options(__doc__, arguments, {"folder": Path, "clips": count, "step": str}, required=("folder",))
    folder = options["folder"]
    if "step" in options:
        _open(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    index = made_index(options.get("clips", 100_000))
    index.write(folder)
    (folder / "old").mkdir(exist_ok=True)
    (folder / "old" / "index.json").write_text(index.to_json(), encoding="utf-8")
    for name, place in (("Arrow", folder), ("JSON of earlier versions", folder / "old")):
        size = sum(path.stat().st_size for path in place.glob("index.*"))
        print(f"{name}: {len(index.samples)} clips, {len(index.shards)} shards, {size / 1e6:.1f} MB", flush=True)
        subprocess.run([sys.executable, "-m", __spec__.name, f"folder={place}", "step=open"], check=True)


def made_index(clips: int) -> Index:
    """Index of clips of random lengths, as prepare.py writes it."""
    noise = np.random.default_rng(0)
    samples, shards, at = [], [], 0
    for number, frames in enumerate(noise.integers(75, 500, clips).tolist()):
        sizes = {"meta.json": 700, "speech.flac": frames * 700}
        sizes |= {
            name: 128 + np.dtype(kind).itemsize * int(np.prod(shape, dtype=np.int64))
            for name, (kind, shape) in array_layout(PAPER, frames).items()
        }
        members = {}
        at = 0 if number % PER_SHARD == 0 else at
        for name, size in sizes.items():
            members[name] = (at + 512, size)
            at += 512 + -(-size // 512) * 512
        shard = f"web-{number // PER_SHARD:05d}.tar"
        speaker, emotion = f"id{number // 8:06d}", ("happy", "sad", None)[number % 3]
        samples.append(SampleEntry(f"id{number:08d}_clip", shard, frames, speaker, "train", members, emotion, 1))
        if (number + 1) % PER_SHARD == 0 or number + 1 == clips:
            shards.append(ShardEntry(shard, at + 1024, f"{number:064x}", number % PER_SHARD + 1))
    encoders = {kind: Identity("noise") for kind in ("audio", "motion", "codec", "landmarks")}
    statistics = LatentStatistics((0.0,) * 4, (1.0,) * 4, sum(sample.frames for sample in samples))
    return Index("folder", "paper", 512, encoders, PAPER, 0.18, tuple(shards), SampleTable.of(samples), statistics)


def _open(folder: Path) -> None:
    from datamodules.datamodule import ShardDataModule

    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()

    def tell(step: str) -> None:
        used = (process.memory_info().rss - before) / 2**20
        print(f"  {step:10s} {time.perf_counter() - start:6.2f} s, {used:6.1f} MiB", flush=True)

    index = read_index(str(folder))
    tell("read")
    check_index(index, str(folder))
    tell("and check")
    del index
    data = ShardDataModule(root=str(folder), workers=0)
    start = time.perf_counter()
    data.setup()
    data.train_dataloader().dataset.micro_batches(0)
    tell("training")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
