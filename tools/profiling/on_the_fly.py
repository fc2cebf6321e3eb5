"""Compares prepared shards with decoding and encoding on the fly: same training windows, same number of processes.

    python prepare.py dataset=folder preset=small source=VIDEOS output=SHARDS
    python -m tools.profiling.on_the_fly source=VIDEOS root=SHARDS [window=24] [workers=2] [seconds=20]

On the fly, every window costs what prepare.py does for its frames: decode, detect the face, crop, encode sound, motion
and latent. The crop box is taken from the shards, so the pass over the whole clip that it needs is not counted. Prints
windows per second of both and their ratio (wanted: at least 20), and of decoding and cropping only.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from configs.command_line import compose
from configs.data import DataConfig
from configs.options import Readers, count, read_options, run_script
from configs.preparation import PrepareConfig
from datamodules.clip_windows import micro_batches
from datamodules.loader import StreamLoader
from datamodules.sample_table import SampleEntry
from datamodules.schema import Index
from encoders.protocols import FPS
from media import FrameReader, read_sound
from preparation.encoders import Encoders
from preparation.plan import file_of
from preparation.speaker_crop import crop_frames
from runtime.ending import end_with_parent
from tools.profiling.data_loader import ARRAYS, training_loader


@dataclass(frozen=True)
class WindowJob:
    """One window of a video: its start in seconds, the crop (left, top, side) and the size of the result."""

    video: Path
    start: float
    frames: int
    crop: tuple[float, float, float]
    frame_size: int


def main(arguments: list[str]) -> None:
    """Times both ways and prints the ratio."""
    known: Readers = {"source": Path, "root": Path, "window": count, "workers": count, "seconds": float}
    options = read_options(__doc__, arguments, known, required=("source", "root"))
    root, source = options["root"], options["source"]
    window, workers, seconds = options.get("window", 24), options.get("workers", 2), options.get("seconds", 20.0)
    torch.set_num_threads(1)
    index = Index.read(root)
    loader = training_loader(root, ARRAYS, window, workers, DataConfig.min_frames)
    jobs = list(_jobs(loader, root, index, source, 64))
    rate = _loader_rate(loader, seconds / 4)
    loader.close()
    print(f"{len(index.samples)} clips, preset {index.preset}, windows of {window} frames, {workers} processes")
    print(f"  loader                              {rate:9.2f} windows/s")
    for name, work in (("decode, crop", decode), ("decode, find face, crop, encode", decode_and_encode)):
        with ProcessPoolExecutor(workers, get_context("spawn"), _start, (index,)) as pool:
            list(pool.map(_warm, range(workers)))
            fly = _rate(pool.map(work, _turns(jobs, seconds)), seconds)
            pool.shutdown(cancel_futures=True)
        print(f"  {name:34s}  {fly:9.2f} windows/s   loader is {rate / fly:6.1f} x as fast", end="")
        print("   (wanted: at least 20)" if work is decode_and_encode else "")


def _jobs(loader: StreamLoader, root: Path, index: Index, source: Path, count: int) -> Iterator[WindowJob]:
    entries = {sample.key: sample for sample in index.samples}
    for batches, _ in zip(loader, range(count), strict=False):
        (batch,) = micro_batches(batches)
        key, start, frames = batch["key"][0], int(batch["start"][0]), int(batch["frames"][0])
        meta = _meta(root, entries[key])
        video = source / file_of(meta["source"])
        yield WindowJob(video, meta["start"] + start / FPS, frames, tuple(meta["crop"]), index.frame_size)


def _meta(root: Path, entry: SampleEntry) -> dict:
    offset, size = entry.members["meta.json"]
    with (root / entry.shard).open("rb") as shard:
        shard.seek(offset)
        return json.loads(shard.read(size))


def _loader_rate(loader: StreamLoader, seconds: float) -> float:
    batches = iter(loader)
    for _ in range(10):
        next(batches)
    return _rate(batches, seconds)


def _rate(items: Iterable[object], seconds: float) -> float:
    start, count = time.perf_counter(), 0
    for _ in items:
        count += 1
        if time.perf_counter() - start > seconds:
            break
    return count / (time.perf_counter() - start)


def _turns(jobs: list[WindowJob], seconds: float) -> list[WindowJob]:
    """Repeats the jobs to more than fit into the time."""
    return [jobs[turn % len(jobs)] for turn in range(math.ceil(200 * seconds))]


_encoders: dict[str, Encoders] = {}


def _start(index: Index) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    config = compose("prepare", PrepareConfig, [f"preset={index.preset}"])
    _encoders["all"] = Encoders.build(config.encoders, "cpu")


def _warm(_: int) -> None:
    time.sleep(0.5)  # long enough that every process takes one: all processes run before the clock starts


def decode(job: WindowJob) -> np.ndarray:
    """Returns the crops of a window, (F, S, S, 3)."""
    reader = FrameReader(job.video, start=job.start, end=job.start + job.frames / FPS, fps=FPS)
    return np.stack(list(crop_frames(reader, job.crop, job.frame_size)))


def decode_and_encode(job: WindowJob) -> int:
    """Computes everything a training window contains; returns its number of latent values."""
    encoders, end = _encoders["all"], job.start + job.frames / FPS
    left, top, side = job.crop
    reader = FrameReader(job.video, start=job.start, end=end, fps=FPS)
    faces = encoders.landmarks.track(reader, job.video, job.start).faces
    frames = np.stack(list(crop_frames(reader, job.crop, job.frame_size)))
    if encoders.motion.identity.name == "blendshapes":
        motion = [face.blendshapes for face in faces if face is not None]
        assert motion
    encoders.audio(torch.from_numpy(read_sound(job.video, start=job.start, end=end)))
    return encoders.codec.encode(torch.from_numpy(frames).permute(0, 3, 1, 2)).numel()


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
