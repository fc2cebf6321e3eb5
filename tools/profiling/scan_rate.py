"""Measures frames per second of a scan on one core, alone and with each optional network, and the time of a choice.

    python -m tools.profiling.scan_rate video=VIDEO [seconds=8] [rows=10000]

Rates are in frames per second of processor time. A network without weights here has random ones, which take as long.
A choice is everything that task=choose does with a table of so many rows: reading, choosing, writing lists and page.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from configs.command_line import compose
from configs.options import count, read_options, run_script, seconds
from configs.preparation import PrepareConfig
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.weights import find
from metrics.networks import arcface
from metrics.networks.arcface import ArcFace
from metrics.networks.metric_weights import frozen
from metrics.networks.syncnet import SyncNet
from preparation.clip_source import ClipSource
from preparation.scan.columns import SCAN_SCHEMA, SCHEMA
from preparation.scan.networks import ScanNetworks
from preparation.scan.scan_clip import Row, scan_clip
from preparation.scan.scan_clips import table_path
from preparation.tasks import choose_task


def main(arguments: list[str]) -> None:
    """Prints the rates and the time."""
    options = read_options(__doc__, arguments, {"video": Path, "seconds": seconds, "rows": count}, required=("video",))
    torch.set_num_threads(1)
    clip = ClipSource("clip", options["video"], options["video"].name, "a", "train", end=options.get("seconds", 8.0))
    detector = MediaPipeDetector(solid=True)
    _timed(clip, detector, ScanNetworks())  # starts MediaPipe
    alone, rows = _timed(clip, detector, ScanNetworks())
    frames = sum(row["frames"] for row in rows)
    print(f"{rows[0]['width']} x {rows[0]['height']}, {frames} frames: {frames / alone:.1f} frames/s without networks")
    for name, networks in (
        ("arcface", ScanNetworks(arcface=_arcface())),
        ("syncnet", ScanNetworks(syncnet=_syncnet())),
    ):
        spent, _ = _timed(clip, detector, networks)
        print(f"{name}: {frames / spent:.1f} frames/s, {(spent - alone) / frames * 1000:.1f} ms a frame for it alone")
    _choice(rows, options.get("rows", 10_000))


def _timed(clip: ClipSource, detector: MediaPipeDetector, networks: ScanNetworks) -> tuple[float, list[Row]]:
    started = time.process_time()
    rows = scan_clip(clip, detector, networks=networks)
    return time.process_time() - started, rows


def _arcface() -> ArcFace:
    if (path := find("arcface")) is not None:
        return ArcFace(path)
    with mock.patch.object(arcface, "load_strictly"):
        return ArcFace({})


def _syncnet() -> SyncNet:
    network = SyncNet(find("syncnet"))
    frozen(network)
    return network


def _choice(rows: list[Row], number: int) -> None:
    """Times a changed ``select`` over a table of ``number`` rows that differ in length and blur."""
    many = [
        rows[place % len(rows)]
        | {"key": f"{place}", "clip": f"{place}", "frames": place % 300, "blur": place % 100 / 100}
        for place in range(number)
    ]
    with tempfile.TemporaryDirectory(prefix="scan-rate-") as name:
        path = table_path(Path(name))
        path.parent.mkdir(parents=True)
        schema = SCHEMA.with_metadata({"scan": f'{{"schema": {SCAN_SCHEMA}}}'})
        pq.write_table(pa.Table.from_pylist(many, schema), path, compression="zstd")
        for select in ("frames>=120", "frames>=120 and blur<0.5 and face_px>=100"):
            settings = ["task=choose", "dataset=folder", f"output={name}", f"select={select}"]
            config = compose("prepare", PrepareConfig, settings)
            wall, processor = time.perf_counter(), time.process_time()
            with redirect_stderr(StringIO()):
                choose_task(config)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
            print(f"choice of {number} rows, select={select}: {wall:.2f} s, {processor:.2f} s of processor time")


if __name__ == "__main__":
    run_script(lambda: main(sys.argv[1:]))
