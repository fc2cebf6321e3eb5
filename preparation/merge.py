"""Merges the records of finished shards to ``index.json``, ``index.arrow`` and ``report.json``.

The latent statistics are computed from float64 sums in shard order. The index therefore has the same bytes for any
number of parts and workers.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.sample_table import SampleTable
from datamodules.schema import Dimensions, Index, LatentStatistics, ShardEntry, ShardError, sample_entry
from encoders.protocols import Identity
from media.archives import archive_of
from preparation.clip_source import ClipSource, Reason
from preparation.plan import Plan, PlannedShard
from preparation.preparation_report import step_seconds
from preparation.workers import RECORD_SCHEMA, record_path
from runtime.files import write_whole
from runtime.json_text import parse_json

REPORT_NAME = "report.json"
REPORT_SCHEMA = 1


def read_record(output: Path, shard: str) -> dict[str, Any] | None:
    """Returns the record of a shard, or None while the shard is unfinished.

    Raises:
        ShardError: If the record is damaged or from a newer version.
    """
    path = record_path(output, shard)
    try:
        record: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        if record["schema"] > RECORD_SCHEMA:
            raise ShardError(f"{path}: written by a newer version (schema {record['schema']}); update emotivetalk")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{path}: damaged ({error!r}); delete it and run prepare.py again") from error
    return record


def unfinished(output: Path, shards: Sequence[PlannedShard]) -> list[str]:
    """Returns the names of the shards that are not written yet."""
    return [shard.name for shard in shards if not record_path(output, shard.name).exists()]


def reports_of(record: Mapping[str, Any], shard: PlannedShard) -> list[dict[str, Any]]:
    """Reports of the clips of a shard, without those of clips that were not kept and have left the plan since."""
    planned = {clip.key for clip in shard.clips}
    return [clip for clip in record["clips"] if clip["key"] in planned or clip["status"] == "kept"]


def forget_failed(output: Path, shards: Sequence[PlannedShard], retry: bool, problems: Mapping[str, Reason]) -> None:
    """Deletes the records of shards that are to be written again.

    They have a failed clip whose file has changed since, or one whose problem is gone or another one.

    Args:
        output: Output folder.
        shards: Shards of this part.
        retry: Whether clips are tried again whose files have not changed.
        problems: Key -> reason of the clips that had a problem when the plan was made.
    """
    for shard in shards:
        record = read_record(output, shard.name)
        if record is None:
            continue
        missed = {clip["key"]: clip for clip in record["clips"] if clip["status"] != "kept"}
        written = record_path(output, shard.name).stat().st_mtime_ns
        if any(
            _is_stale(clip, missed[clip.key], retry, written, problems) for clip in shard.clips if clip.key in missed
        ):
            record_path(output, shard.name).unlink()


def _is_stale(
    clip: ClipSource, report: dict[str, Any], retry: bool, written: int, problems: Mapping[str, Reason]
) -> bool:
    """Whether a clip that was not kept would get another report now."""
    if clip.problem is not None:
        return bool(report["reason"] != clip.problem)
    failed = report["status"] == "failed" and (retry or _changed_since(clip, written))
    return failed or problems.get(clip.key) == report["reason"]


def _changed_since(clip: ClipSource, written: int) -> bool:
    """Whether a file of a clip was written, replaced or made readable after a time in nanoseconds."""
    for path in (clip.path, clip.audio):
        with suppress(OSError):
            if path is not None and (archive_of(path) or path).stat().st_ctime_ns > written:
                return True
    return False


def merge(output: Path, plan: Plan) -> Index | None:
    """Writes ``index.json``, ``index.arrow`` and ``report.json`` from all records of a finished plan.

    Returns:
        The index; None, and no index, if no clip was kept.

    Raises:
        ShardError: If a shard is unfinished or missing, or if parts used different encoders.
    """
    waiting = unfinished(output, plan.shards)
    if waiting:
        raise ShardError(
            f"{output}: {len(waiting)} of {len(plan.shards)} shards are not finished ({', '.join(waiting[:5])}"
            f"{', ...' if len(waiting) > 5 else ''}); run the missing parts of prepare.py first"
        )
    records = []
    for shard in plan.shards:
        record = read_record(output, shard.name)
        if record is not None:
            record = record | {"clips": reports_of(record, shard)}
        if record is None or [clip["key"] for clip in record["clips"]] != [clip.key for clip in shard.clips]:
            raise ShardError(
                f"{record_path(output, shard.name)}: does not have the clips planned for this shard; delete it and run "
                "its part of prepare.py again"
            )
        records.append(record)
    write_report(output, plan, records)
    kept = [record for record in records if record["shard"] is not None]
    if not kept:
        return None
    for record in kept:
        if record["encoders"] != kept[0]["encoders"]:
            raise ShardError(
                f"{record_path(output, record['shard']['name'])}: its encoders {record['encoders']} are not those of "
                f"{kept[0]['shard']['name']} {kept[0]['encoders']}; delete the record and run its part again"
            )
        path = output / record["shard"]["name"]
        if not path.is_file() or path.stat().st_size != record["shard"]["bytes"]:
            raise ShardError(f"{path}: missing or not {record['shard']['bytes']} bytes as written; delete "
                             f"{record_path(output, path.name)} and run its part again")  # fmt: skip
    count, total, squares = np.sum([record["latent_sums"] for record in kept], axis=0)
    mean = total / count
    samples = SampleTable.of(sample_entry(sample) for record in kept for sample in record["samples"])
    index = Index(
        dataset=plan.settings["dataset"]["name"],
        preset=plan.settings["preset"],
        frame_size=plan.settings["frame_size"],
        encoders={kind: Identity(**identity) for kind, identity in kept[0]["encoders"].items()},
        dimensions=Dimensions(**kept[0]["dimensions"]),
        codec_scale=kept[0]["codec_scale"],
        shards=tuple(ShardEntry(**record["shard"]) for record in kept),
        samples=samples,
        split=plan.settings["dataset"]["split"],
        latent=LatentStatistics(
            mean=tuple(mean.tolist()),
            std=tuple(np.sqrt(np.maximum(squares / count - mean**2, 0)).tolist()),
            frames=int(samples.frames.sum()),
        ),
    )
    index.write(output)
    return index


def write_report(output: Path, plan: Plan, records: list[dict[str, Any]]) -> None:
    """Writes ``report.json``: the status of every clip and the time spent in each step."""
    clips = sorted((clip for record in records for clip in record["clips"]), key=lambda clip: clip["key"])
    report = {
        "schema": REPORT_SCHEMA,
        "dataset": plan.settings["dataset"]["name"],
        "preset": plan.settings["preset"],
        "counts": dict(Counter(clip["status"] for clip in clips)),
        "reasons": dict(Counter(clip["reason"] for clip in clips if clip["reason"])),
        "frames": sum(clip["frames"] for clip in clips if clip["status"] == "kept"),
        "step_seconds": {step: round(spent, 3) for step, spent in step_seconds(clips).items()},
        "clips": clips,
    }
    write_whole(output / REPORT_NAME, json.dumps(report, indent=1) + "\n")
