"""Scans the clips of a dataset: one part file for each clip, and one Parquet table of all.

A part holds the rows of a clip, and the size and time of the file that they were measured on. It gets its name when it
is complete, so a scan may be killed at any time. A part is scanned again if its file has changed, if it is of another
version of the scan or of other settings, or if it failed and ``retry`` is set. The table has the same bytes for any
number of workers, parts and restarts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from configs.preparation import PrepareConfig
from datamodules.schema import ShardError
from encoders.factory import build_landmark_detector
from encoders.protocols import LandmarkDetector
from media import MediaError
from media.archives import hash_of, is_file
from media.source import identify
from preparation.clip_source import FAILURES, ClipSource, Reason, Rejected
from preparation.pool import ClipPool
from preparation.scan.columns import SCAN_SCHEMA, SCHEMA
from preparation.scan.identity import people_of_dataset
from preparation.scan.networks import ScanNetworks, present
from preparation.scan.scan_clip import Row, problem_row, scan_clip
from runtime.ending import end_with_parent
from runtime.files import whole_file, write_whole
from runtime.json_text import parse_json
from runtime.platforms import usable_cores
from runtime.registry import take, taken

SCAN_FOLDER = "scan"
CHANGED = "has changed since it was scanned; run task=scan again"
TABLE_NAME = "scan.parquet"
# Measures whose change does not make a row another one: names of the clip, which follow the dataset's settings.
NAMES = ("source", "path", "sound", "speaker", "split", "emotion", "level", "view")


def table_path(output: Path) -> Path:
    """Path of the table in an output folder."""
    return output / SCAN_FOLDER / TABLE_NAME


def part_path(output: Path, clip: ClipSource) -> Path:
    """Path of a clip's part; 256 folders, since a folder of a million files is slow."""
    return output / SCAN_FOLDER / "parts" / hashlib.sha256(clip.key.encode()).hexdigest()[:2] / f"{clip.key}.json"


def scan_clips(
    config: PrepareConfig,
    clips: Sequence[ClipSource],
    output: Path,
    on_clip: Callable[[list[Row]], None] = lambda rows: None,
) -> None:
    """Scans every clip without a valid part.

    Args:
        config: Configuration of the run.
        clips: Clips of this part.
        output: Output folder.
        on_clip: Called with the rows of each clip when it is finished.

    Raises:
        Exception: Errors that would affect every clip: missing weights, too little memory, a full disk.
    """
    settings = _settings(config)
    todo = [clip for clip in clips if _valid_rows(output, clip, settings, config.retry) is None]
    for folder in {part_path(output, clip).parent for clip in todo}:
        folder.mkdir(parents=True, exist_ok=True)
    if not todo:
        return
    workers = min(config.workers or usable_cores(), len(todo))
    with ClipPool(workers, _start_worker, (config, output / SCAN_FOLDER, taken()), config.clip_timeout) as pool:
        for clip, result in pool.each(_scan, todo):
            file, found = (_file(clip), [problem_row(clip, result)]) if isinstance(result, Rejected) else result
            record = {"settings": settings, "file": file, "rows": found}
            write_whole(part_path(output, clip), json.dumps(record, sort_keys=True) + "\n")
            on_clip(found)


def merge_scan(config: PrepareConfig, clips: Sequence[ClipSource], output: Path) -> pa.Table | None:
    """Writes the table of all clips.

    Returns:
        The table; None, and nothing is written, if another part has not finished.
    """
    settings = _settings(config)
    rows: list[Row] = []
    first: dict[tuple[Any, ...], str] = {}
    for clip in clips:
        found = _valid_rows(output, clip, settings, retry=False)
        if found is None:
            if (_record(output, clip) or {}).get("settings") != settings:
                return None
            found = [problem_row(clip, Rejected(Reason.UNREADABLE, CHANGED))]
        same = (found[0]["sha256"], found[0]["sound_sha256"], clip.start, clip.end, str(clip.crop))
        if found[0]["sha256"] is not None and (other := first.setdefault(same, clip.key)) != clip.key:
            found = [row | {"duplicate_of": other} for row in found]
        rows += [row | _renamed(clip) for row in found]
    for row, person in zip(rows, people_of_dataset(rows), strict=True):
        row["person"] = person
    schema = SCHEMA.with_metadata({"scan": json.dumps(settings, sort_keys=True)})
    table = pa.Table.from_pylist(rows, schema)
    with whole_file(table_path(output)) as partial:
        pq.write_table(table, partial, compression="zstd")
    return table


def read_scan(output: Path) -> pa.Table:
    """Reads the table of a scan, memory-mapped.

    Raises:
        ShardError: If there is none, it is damaged, or of another version.
    """
    path = table_path(output)
    if not path.is_file():
        raise ShardError(f"{path}: there is no scan; run prepare.py task=scan with the same output first")
    try:
        table = pq.read_table(path, memory_map=True)
        version = parse_json(table.schema.metadata[b"scan"])["schema"]
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise ShardError(f"{path}: damaged ({error}); run prepare.py task=scan again") from error
    if version != SCAN_SCHEMA:
        raise ShardError(f"{path}: is a scan of version {version}, expected {SCAN_SCHEMA}; run task=scan again")
    return table


def changed_since(output: Path, table: pa.Table, clips: Sequence[ClipSource]) -> list[ClipSource]:
    """Clips whose video or sound is another one than that of their scan. Equal sizes and times are not read."""
    hashes = {row["clip"]: row for row in table.select(["clip", "sha256", "sound_sha256"]).to_pylist()}
    return [clip for clip in clips if clip.key in hashes and _is_other(_record(output, clip), clip, hashes[clip.key])]


def _is_other(record: dict[str, Any] | None, clip: ClipSource, hashes: Row) -> bool:
    if (
        record is None
        or clip.problem is not None
        or hashes["sha256"] is None
        or record["file"][1:3] == _file(clip)[1:3]
    ):
        return False
    try:
        now = [None if path is None else hash_of(path) for path in (clip.path, clip.audio)]
    except OSError:
        return True
    return now != [hashes["sha256"], hashes["sound_sha256"]]


def _settings(config: PrepareConfig) -> dict[str, Any]:
    """What the measures depend on, apart from the files."""
    landmarks = config.encoders.landmarks
    return {
        "schema": SCAN_SCHEMA,
        "landmarks": landmarks.name,
        "options": dict(landmarks.options),
        "networks": present(config.networks),
    }


def _file(clip: ClipSource) -> list[list[Any]]:
    """Size and time of each file of a clip, and the clip's span and crop; the problem of an unreadable one."""
    found: list[list[Any]] = [[clip.start, clip.end, clip.crop, clip.crop_height]]
    landmarks = clip.path.with_suffix(".csv")
    for path in (clip.path, clip.audio, landmarks if is_file(landmarks) else None):
        try:
            found.append([] if path is None else list(identify(path)[1:]))
        except MediaError as error:
            found.append([type(error).__name__])
    return json.loads(json.dumps(found))  # as it is read back: lists, no tuples


def _valid_rows(output: Path, clip: ClipSource, settings: dict[str, Any], retry: bool) -> list[Row] | None:
    """Rows of a clip's part, or None if it must be scanned."""
    record = _record(output, clip)
    if record is None:
        return None
    rows: list[Row] = record["rows"]
    valid = record["settings"] == settings and record["file"] == _file(clip)
    problem = rows[0]["problem"]
    failed = problem is not None and Reason(problem) in FAILURES
    return None if not valid or (failed and retry) or _problem_changed(clip, problem) else rows


def _record(output: Path, clip: ClipSource) -> dict[str, Any] | None:
    """Content of a clip's part; None without a whole one."""
    try:
        record: dict[str, Any] = parse_json(part_path(output, clip).read_text(encoding="utf-8"))
        whole = {"settings", "file"} <= record.keys() and set(record["rows"][0]) == set(SCHEMA.names)
    except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
    return record if whole else None


def _problem_changed(clip: ClipSource, problem: str | None) -> bool:
    """Whether the dataset's own verdict on a clip is another one than in its rows."""
    return clip.problem is not None and clip.problem.value != problem


def _renamed(clip: ClipSource) -> Row:
    """Current names of a clip, which may have moved since its part was written."""
    row = problem_row(clip, Rejected(Reason.ERROR))
    return {name: row[name] for name in NAMES}


_state: dict[str, Any] = {}


def _start_worker(config: PrepareConfig, folder: Path, plugins: tuple[tuple[str, str], ...]) -> None:
    end_with_parent()
    take(plugins)
    torch.set_num_threads(1)  # so that results do not depend on the number of workers
    _state.update(config=config, folder=folder)


def _detector() -> LandmarkDetector:
    if "detector" not in _state:
        landmarks = _state["config"].encoders.landmarks
        options = dict(landmarks.options) | ({"solid": True} if landmarks.name == "mediapipe" else {})
        _state["detector"] = build_landmark_detector(landmarks.name, **options)
    detector: LandmarkDetector = _state["detector"]
    return detector


def _networks() -> ScanNetworks:
    if "networks" not in _state:
        _state["networks"] = ScanNetworks.load(_state["config"].networks)
    networks: ScanNetworks = _state["networks"]
    return networks


def _scan(clip: ClipSource) -> tuple[list[list[Any]], list[Row]]:
    """What the clip's files are before they are read, and the rows."""
    file = _file(clip)
    return file, scan_clip(clip, _detector(), _state["folder"], _networks())
