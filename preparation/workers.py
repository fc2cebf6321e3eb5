"""Runs a plan: worker processes prepare clips, and this process writes the shards in order.

A shard is finished when its record ``parts/<shard>.json`` exists. The run may be killed at any time: a rerun writes the
shards without a record. A clip that hangs or kills its worker is reported as failed; the others continue.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.preparation import PrepareConfig
from datamodules.schema import Dimensions
from encoders.protocols import Identity
from preparation.clip_source import ClipReport, ClipSource, Rejected
from preparation.encoder_processes import (
    EncoderPlace,
    EncoderProcesses,
    EncoderUse,
    RemoteEncoders,
    encoder_devices,
)
from preparation.encoders import Encoders
from preparation.plan import PARTS_FOLDER, PlannedShard
from preparation.pool import ClipPool
from preparation.prepare_clip import PreparedClip, prepare_clip
from preparation.shard_writer import ShardWriter
from runtime.devices import resolve_device
from runtime.ending import end_with_parent
from runtime.files import write_whole
from runtime.locks import locked
from runtime.platforms import usable_cores
from runtime.registry import take, taken

RECORD_SCHEMA = 1

Described = tuple[Dimensions, dict[str, Identity], float]


def default_workers(device: str) -> int:
    """Returns one worker per available CPU core, and one more for each GPU, since workers wait for it."""
    return usable_cores() + (0 if device == "cpu" else max(1, torch.cuda.device_count()))


class ClipWorkers:
    """Pool of worker processes that prepare clips, and the encoder processes of the GPUs; a context manager.

    Args:
        config: Configuration of the run.
    """

    def __init__(self, config: PrepareConfig) -> None:
        device = resolve_device(config.device)
        workers = config.workers or default_workers(device)
        devices = encoder_devices(config.devices, device)
        self._encoders = EncoderProcesses(config, devices) if devices else None
        places = self._encoders.places if self._encoders else []
        self._pool = ClipPool(workers, _start_worker, (config, device, places, taken()), config.clip_timeout)

    def __enter__(self) -> ClipWorkers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._pool.__exit__(kind, *error)
        if self._encoders:
            self._encoders.__exit__()

    def uses(self) -> list[EncoderUse]:
        """What the encoder processes have done; empty without any."""
        return self._encoders.uses() if self._encoders else []

    def describe(self) -> Described:
        """Returns the encoders' dimensions, identities and latent scale, from a worker.

        Raises:
            Exception: Any error of building the encoders.
        """
        described: Described = self._pool.call(_describe)
        return described

    def prepare(self, clips: Sequence[ClipSource]) -> Iterator[PreparedClip]:
        """Prepares clips in parallel and yields them in order; at most two clips per worker are prepared ahead.

        Raises:
            EncoderProcessError: If an encoder process ends again and again.
            OutOfMemory: If there is not enough memory.
        """
        for clip, prepared in self._pool.each(_prepare, clips):
            if self._encoders:
                self._encoders.check()
            if isinstance(prepared, Rejected):
                report = ClipReport(clip.name, clip.key, "failed", prepared.reason, prepared.detail)
                yield PreparedClip(report)
            else:
                yield prepared


_state: dict[str, Any] = {}


def _start_worker(
    config: PrepareConfig, device: str, places: list[EncoderPlace], plugins: tuple[tuple[str, str], ...]
) -> None:
    end_with_parent()
    take(plugins)
    torch.set_num_threads(1)  # so that results do not depend on the number of workers
    torch.use_deterministic_algorithms(True, warn_only=True)
    _state.update(config=config, device=device, places=places)


def _encoders() -> Encoders:
    """The encoders of this process, or proxies of those of the next encoder process."""
    if _state["places"]:
        if "remote" not in _state:
            _state["remote"] = RemoteEncoders(_state["config"], _state["places"])
        remote: RemoteEncoders = _state["remote"]
        return remote.next_clip()
    if "encoders" not in _state:
        _state["encoders"] = Encoders.build(_state["config"].encoders, _state["device"])
    encoders: Encoders = _state["encoders"]
    return encoders


def _describe() -> Described:
    encoders = _encoders()
    return encoders.dimensions(_state["config"].frame_size), encoders.identities(), encoders.codec.scale


def _prepare(clip: ClipSource) -> PreparedClip:
    return prepare_clip(clip, _encoders(), _state["config"])


def record_path(output: Path, shard: str) -> Path:
    """Returns the path of a finished shard's record."""
    return output / PARTS_FOLDER / f"{shard}.json"


def write_shards(
    shards: Sequence[PlannedShard],
    workers: ClipWorkers,
    output: Path,
    described: Described,
    on_clip: Callable[[ClipReport], None] = lambda report: None,
) -> None:
    """Writes every shard that has no record yet. A shard gets its final name when it is complete.

    Args:
        shards: Planned shards.
        workers: Pool that prepares the clips.
        output: Output folder.
        described: Dimensions, identities and latent scale of the encoders, for the records.
        on_clip: Called with the report of each clip.

    Raises:
        LockedError: If another process is writing one of these shards.
        OSError: If the disk is full or the output cannot be written; finished shards are kept.
    """
    todo = [shard for shard in shards if not record_path(output, shard.name).exists()]
    prepared = workers.prepare([clip for shard in todo for clip in shard.clips])
    for shard in todo:
        lock = output / PARTS_FOLDER / f".{shard.name}.lock"
        with locked(lock, str(output / shard.name), "give each process another part=i/n, or wait"):
            record = _write_shard(shard, prepared, output, on_clip) | _described_json(described)
            write_whole(record_path(output, shard.name), json.dumps(record, indent=1, sort_keys=True) + "\n")


def _write_shard(
    shard: PlannedShard, prepared: Iterator[PreparedClip], output: Path, on_clip: Callable[[ClipReport], None]
) -> dict[str, Any]:
    reports = []
    sums: np.ndarray | None = None
    with ShardWriter(output, shard.name) as writer:
        for _ in shard.clips:
            done = next(prepared)
            if done.meta is not None and done.latent_sums is not None:
                writer.add(done.meta, done.members)
                sums = done.latent_sums if sums is None else sums + done.latent_sums
            reports.append(asdict(done.report))
            on_clip(done.report)
        entry = writer.close()
    return {
        "schema": RECORD_SCHEMA,
        "shard": None if entry is None else asdict(entry),
        "samples": [asdict(sample) for sample in writer.samples],
        "latent_sums": None if sums is None else sums.tolist(),
        "clips": reports,
    }


def _described_json(described: Described) -> dict[str, Any]:
    dimensions, identities, scale = described
    return {
        "dimensions": asdict(dimensions),
        "encoders": {kind: asdict(identity) for kind, identity in identities.items()},
        "codec_scale": scale,
    }
