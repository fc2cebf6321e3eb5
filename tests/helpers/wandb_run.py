"""Reads an offline W&B run from its file, as ``wandb sync`` does."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FULL, LAST = 32768, 1, 4


@dataclass
class OfflineRun:
    """An offline run as logged by one process.

    Attributes:
        folder: ``offline-run-DATE-ID``.
        id: Id of the run, followed by its entity, project, group, job_type, notes and tags.
        config: Key -> value.
        history: Logged rows in order; nested names are joined by a slash.
        artifacts: Name of each logged artifact -> names of its files.
    """

    folder: Path
    id: str = ""
    entity: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artifacts: dict[str, list[str]] = field(default_factory=dict)

    def values(self, name: str) -> dict[int, Any]:
        """Returns step -> value of a logged name."""
        rows = [row for row in self.history if name in row]
        return {row["trainer/global_step"]: row[name] for row in rows}

    def file(self, path: str) -> Path:
        """Returns the file of a logged picture, video or table."""
        return self.folder / "files" / path


def read_runs(folder: Path) -> list[OfflineRun]:
    """Reads all runs under ``folder/wandb``, oldest first."""
    return [_read(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]


def _records(content: bytes) -> Iterator[bytes]:
    """Yields the records of LevelDB's log format, in blocks of 32 KiB after W&B's header of 7 bytes."""
    place, whole = 7, b""
    while place + 7 <= len(content):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if not kind:
            return
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""


def _read(folder: Path) -> OfflineRun:
    run = OfflineRun(folder)
    (path,) = folder.glob("*.wandb")
    for data in _records(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            one = record.run
            run.id, run.project, run.group, run.job_type = one.run_id, one.project, one.run_group, one.job_type
            run.entity, run.notes, run.tags = one.entity, one.notes, list(one.tags)
            _update(run.config, one.config.update)
        elif kind == "config":
            _update(run.config, record.config.update)
        elif kind == "history":
            run.history.append(
                {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            )
        elif kind == "artifact":
            run.artifacts[record.artifact.name] = [entry.path for entry in record.artifact.manifest.contents]
        elif kind == "request" and record.request.WhichOneof("request_type") == "log_artifact":
            artifact = record.request.log_artifact.artifact
            run.artifacts[artifact.name] = [entry.path for entry in artifact.manifest.contents]
    return run


def _update(config: dict[str, Any], items: Any) -> None:
    for item in items:
        config[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
