"""Measures speed and memory of the training loader, as ratios within one run.

    python -m tools.profiling.data_loader   on temporary noise shards of the paper's shapes
    python -m tools.profiling.data_loader root=DIR fields=audio,lip   on prepared shards (memory still uses noise)

Cold (page cache dropped before) and warm, it prints: bytes per second of whole clips through the loader, compared with
plain sequential reads of the same tar files by as many processes; windows per second; and the resident memory of the
loader's processes over 2,000 samples of 512 px x 120 frames. There are two kinds of raw reads. One keeps a whole shard
in memory, as a batch keeps its data. The other reuses one small buffer that stays in the processor's cache: it shows
the speed of the page cache, but no loader that keeps data can reach it.
"""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from configs.data import DataConfig
from configs.options import Readers, count, read_options, run_script
from datamodules.clip_windows import RankBatch, micro_batches
from datamodules.loader import StreamLoader
from datamodules.mixture import datamodule
from datamodules.sample_table import SampleTable
from datamodules.schema import PORTRAIT_SIZE, PORTRAITS, Dimensions, Index, LatentStatistics, SampleMeta
from encoders.protocols import Identity
from preparation.shard_writer import ShardWriter

GIB, MIB = 2**30, 2**20
PAPER = Dimensions(  # wav2vec 2.0 base and PD-FGC
    latent_channels=4, latent_size=64, audio_layers=12, audio_width=768, lip_width=512, expression_width=30
)
ARRAYS = ["latent", "audio", "lip", "expression", "boxes"]


def main(arguments: list[str]) -> None:
    """Runs all three measurements."""
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    known: Readers = {"root": str, "fields": str, "window": count, "workers": count, "samples": count, "temporary": str}
    options = read_options(__doc__, arguments, known)
    fields = options.get("fields", "latent,audio,lip,expression").split(",")
    window, workers, samples = options.get("window", 120), options.get("workers", 2), options.get("samples", 2000)
    with tempfile.TemporaryDirectory(prefix="loader-speed-", dir=options.get("temporary")) as folder:
        write_noise(Path(folder))
        root = Path(options.get("root", folder))
        print(
            f"{root.name}: {len(Index.read(root).samples)} clips, {workers} loader processes, {os.cpu_count()} cores\n"
        )
        raw = throughput(root, workers)
        windows(root, fields, window, workers, raw)
        memory(Path(folder), workers, samples)


def throughput(root: Path, workers: int) -> float:
    """Compares whole clips through the loader with raw reads of the tar files; returns warm raw bytes per second."""
    shards = [root / shard.name for shard in Index.read(root).shards]
    rate = 0.0
    print("whole clips: MiB/s of the loader compared with raw sequential reads, medians of 5")
    steps = len(Index.read(root).samples)
    loader = training_loader(root, ARRAYS, max(sample.frames for sample in Index.read(root).samples), workers)
    batches = iter(loader)
    for _ in range(steps):  # one pass, so that all processes run and every later round is one pass
        next(batches)
    for name, drop in (("cold", True), ("warm", False)):
        turns = [  # alternating, so that other load on the machine affects all sides
            (
                _rate(lambda: sum(delivered(next(batches)) for _ in range(steps)), shards, drop),
                _rate(lambda: read_raw(shards, workers, keep=True), shards, drop),
                _rate(lambda: read_raw(shards, workers, keep=False), shards, drop),
            )
            for _ in range(5)
        ]
        ours, kept, passing = (float(np.median(side)) for side in zip(*turns, strict=True))
        print(f"  {name}: loader {ours / MIB:.0f}", end="")
        print(f"   raw, kept {kept / MIB:.0f}, ratio {ours / kept:.2f} (wanted: at least 0.70)", end="")
        print(f"   raw, through one small buffer {passing / MIB:.0f}, ratio {ours / passing:.2f}")
        rate = kept
    loader.close()
    return rate


def windows(root: Path, fields: list[str], window: int, workers: int, raw: float) -> None:
    """Prints training windows per second, and how many the raw rate would allow."""
    shards = [root / shard.name for shard in Index.read(root).shards]
    print(f"\ntraining windows of {window} frames, fields {','.join(fields)}")
    for name, drop in (("cold", True), ("warm", False)):
        if drop:
            drop_pages(shards)
        loader = training_loader(root, fields, window, workers)
        batches = iter(loader)
        next(batches)  # exclude the start of the processes
        start, count, size = time.perf_counter(), 0, 0
        while time.perf_counter() - start < 5:
            batch = next(batches)
            count, size = count + 1, size + delivered(batch)
        seconds = time.perf_counter() - start
        loader.close()
        predicted = raw / (size / count)
        print(f"  {name}: {count / seconds:7.1f} windows/s of {size / count / MIB:.2f} MiB", end="")
        print(f"   (predicted from the warm raw rate: at most {predicted:.1f})")


def memory(root: Path, workers: int, samples: int) -> None:
    """Prints the resident memory of every loader process over ``samples`` windows of the paper's shapes."""
    loader = training_loader(root, ["latent", "audio", "lip", "expression", "boxes", "portraits"], 120, workers)
    curves: dict[int, list[float]] = {}
    batches = iter(loader)
    size = delivered(next(batches))
    before = resident(os.getpid())
    for done in range(1, samples):
        next(batches)
        if done % 50 == 0:
            for child in multiprocessing.active_children():
                curves.setdefault(child.pid or 0, []).append(resident(child.pid or 0))
    loader.close()
    print(f"\nmemory of the loader over {samples} samples of {size / MIB:.2f} MiB")
    expected = before + (2 + 1) * size / MIB
    print(f"  predicted: this process's memory ({before:.0f} MiB, inherited) and 3 batches: at most {expected:.0f} MiB")
    for process, curve in curves.items():
        quarter = max(1, len(curve) // 4)
        first, last = (float(np.mean(part)) for part in (curve[:quarter], curve[-quarter:]))
        print(f"  process {process}: first quarter {first:.0f} MiB, last quarter {last:.0f} MiB", end="")
        print(f", highest {max(curve):.0f} MiB   (wanted: flat, below 1024)")


def read_raw(shards: list[Path], processes: int, keep: bool) -> int:
    """Reads files sequentially, split over processes; each buffer is a whole shard or 4 MiB. Returns the bytes."""
    jobs = [
        multiprocessing.get_context("fork").Process(target=_read_files, args=(shards[part::processes], keep))
        for part in range(max(1, processes))
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    return sum(shard.stat().st_size for shard in shards)


def _read_files(paths: list[Path], keep: bool) -> None:
    block = bytearray(max(path.stat().st_size for path in paths) if keep else 4 * MIB)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                pass


def _rate(read: Callable[[], int], shards: list[Path], drop: bool) -> float:
    if drop:
        drop_pages(shards)
    start = time.perf_counter()
    size = read()
    return size / (time.perf_counter() - start)


def training_loader(root: Path, fields: list[str], window: int, workers: int, min_frames: int = 1) -> StreamLoader:
    """Returns an endless loader of windows of single clips with at least ``min_frames`` frames."""
    config = DataConfig(
        name=Index.read(root).dataset, root=str(root), fields=fields, window=window, pad=False, batch_size=1,
        steps_per_epoch=10**9, workers=workers, min_frames=min_frames,
    )  # fmt: skip
    return datamodule(config).train_dataloader()


def delivered(batch: RankBatch) -> int:
    """Returns the bytes of a batch's tensors."""
    values = (value for part in micro_batches(batch) for value in part.values())
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def drop_pages(paths: list[Path]) -> None:
    """Asks the kernel to drop the files' pages, so that the next read comes from the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident(process: int) -> float:
    """Resident memory of a process in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def write_noise(folder: Path, clips: int = 96, shards: int = 12) -> None:
    """Writes about 1.6 GB of noise shards of the paper's shapes, with clips of 120 to 500 frames."""
    noise = np.random.default_rng(0)
    frames = np.linspace(120, 500, clips).astype(int)[noise.permutation(clips)]
    entries, samples = [], []
    for number, places in enumerate(np.array_split(np.arange(clips), shards)):
        with ShardWriter(folder, f"folder-{number:05d}.tar") as writer:
            for i in places:
                count = int(frames[i])
                meta = SampleMeta(
                    key=f"clip_{i:04d}",
                    dataset="folder",
                    split="train",
                    speaker=f"speaker_{i}",
                    source="noise",
                    start=0.0,
                    source_fps=25.0,
                    frames=count,
                    crop=(0.0, 0.0, 512.0),
                    frame_size=512,
                    portrait_frames=(0, 1, 2, 3),
                )
                writer.add(meta, _members(meta, noise))
            entry = writer.close()
            assert entry is not None
            entries.append(entry)
            samples += writer.samples
    encoders = {kind: Identity("noise") for kind in ("audio", "motion", "codec", "landmarks")}
    latent = LatentStatistics((0.0,) * 4, (1.0,) * 4, int(frames.sum()))
    index = Index("folder", "paper", 512, encoders, PAPER, 1.0, tuple(entries), SampleTable.of(samples), latent)
    index.write(folder)


def _members(meta: SampleMeta, noise: np.random.Generator) -> dict[str, bytes]:
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "latent": ((PAPER.latent_channels, PAPER.latent_size, PAPER.latent_size), np.float16),
        "audio": ((PAPER.audio_layers, PAPER.audio_width), np.float16),
        "lip": ((PAPER.lip_width,), np.float32),
        "expression": ((PAPER.expression_width,), np.float32),
        "boxes": ((2, 4), np.float32),
    }
    arrays: dict[str, np.ndarray] = {
        name: noise.standard_normal((meta.frames, *shape), np.float32).astype(kind)
        for name, (shape, kind) in shapes.items()
    }
    arrays["portraits"] = np.zeros((PORTRAITS, PORTRAIT_SIZE, PORTRAIT_SIZE, 3), np.uint8)
    packed = {"meta.json": json.dumps(asdict(meta)).encode()}
    for name, array in arrays.items():
        out = io.BytesIO()
        np.save(out, array, allow_pickle=False)
        packed[f"{name}.npy"] = out.getvalue()
    return packed | {"speech.flac": b""}


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
