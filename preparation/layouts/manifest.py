"""Clips that a list names: ``dataset=manifest dataset.list_file=clips.csv``.

The list is a CSV file with a header, a JSON Lines file, or a Parquet table. Only the first of its columns is needed:

    path     video below the source folder, relative to it or absolute
    start    begin of the clip in the video, seconds
    end      end of the clip, seconds
    speaker  name of the speaker; otherwise that of dataset=folder
    emotion  name of the emotion
    level    intensity of the emotion, 1 to 3
    split    train, val or test; otherwise by dataset.split
    sound    sound file below the source folder that replaces the video's track
    box      left, top, width and height of a crop, pixels

``scan/chosen.csv`` is such a list. A row with an error becomes a clip with a problem; the others are used.
"""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from configs.preparation import DatasetConfig
from datamodules.schema import SPLITS
from preparation.clip_source import ClipSource, Reason
from preparation.layouts.dataset import Dataset
from preparation.layouts.folder import speaker_of
from preparation.layouts.listing import Entry, LayoutError, Listing, path_key
from runtime.json_text import parse_json

COLUMNS = ("path", "start", "end", "speaker", "emotion", "level", "split", "sound", "box")
FORMATS = (".csv", ".jsonl", ".parquet")


class _RowError(Exception):
    """What is wrong with a row."""


@dataclass(frozen=True)
class _Files:
    """Files of the source folder by relative and by absolute path."""

    videos: dict[str, Entry]
    sounds: dict[str, Entry]

    @classmethod
    def of(cls, listing: Listing) -> _Files:
        return cls(*(
            {name: entry for entry in entries for name in (str(entry.relative), os.path.abspath(entry.path))}
            for entries in (listing.videos, listing.sounds)
        ))  # fmt: skip


class Manifest(Dataset):
    """Clips that a CSV, JSON Lines or Parquet file lists."""

    name = "manifest"
    splits = {"emotivetalk": "train"}
    own_splits = True

    def clips(self, listing: Listing, config: DatasetConfig) -> tuple[list[ClipSource], list[str]]:
        """Converts the rows of the list to clips; see ``Dataset.clips``.

        Raises:
            LayoutError: If the list is missing, cannot be read, or has no column ``path``.
        """
        if config.list_file is None:
            raise LayoutError("dataset.list_file is missing: name the list of clips, e.g. dataset.list_file=clips.csv")
        path = Path(config.list_file)
        files = _Files.of(listing)
        clips: list[ClipSource] = []
        unknown: Counter[str] = Counter()
        for number, row in _rows(path):
            unknown.update(name for name in row if name not in COLUMNS)
            try:
                clips.append(_clip(row, files))
            except _RowError as error:
                clips.append(_problem(path, number, row, Reason.BAD_ANNOTATION, str(error)))
        used = {clip.path for clip in clips}
        if unlisted := sum(entry.path not in used for entry in listing.videos):
            listing.ignored["videos that are not in the list"] += unlisted
        notes = [f"{path}: columns that are not used: {', '.join(sorted(unknown))}"] if unknown else []
        return _without_overlaps(clips), notes


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and values of each row; empty values are left out."""
    if path.suffix not in FORMATS:
        raise LayoutError(f"dataset.list_file={path}: expected a file that ends in {', '.join(FORMATS)}")
    try:
        rows: list[Any]
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            text = path.read_text(encoding="utf-8-sig")
            if path.suffix == ".csv":
                rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
            else:
                rows = [parse_json(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise LayoutError(f"dataset.list_file={path}: cannot be read ({error}); check the file") from error
    if not rows or not any(isinstance(row, dict) and "path" in row for row in rows):
        found = ", ".join(map(str, rows[0])) if rows and isinstance(rows[0], dict) else "no rows"
        raise LayoutError(
            f"dataset.list_file={path}: has no column path (found {found or 'none'}); add the videos' paths"
        )
    for number, row in enumerate(rows, 1):
        values = row if isinstance(row, dict) else {}
        yield number, {str(name): value for name, value in values.items() if value is not None and value != ""}


def _clip(row: dict[str, Any], files: _Files) -> ClipSource:
    if "path" not in row:
        raise _RowError("has no path")
    entry = _file(str(row["path"]), files.videos, "video")
    start, end = _number(row, "start"), _number(row, "end")
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise _RowError(f"start is {row.get('start', 0)} and end {row.get('end')}, expected 0 <= start < end")
    level = _number(row, "level")
    if level not in (None, 1, 2, 3):
        raise _RowError(f"level is {row['level']}, expected 1, 2 or 3")
    split = str(row.get("split", ""))
    if split and split not in SPLITS:
        raise _RowError(f"split is {split}, expected {', '.join(SPLITS)}")
    key = path_key(entry.relative)
    if start is not None or end is not None:
        key += f"--{round((start or 0) * 1000):07d}" + ("" if end is None else f"-{round(end * 1000):07d}")
    return ClipSource(
        key=key,
        path=entry.path,
        name=entry.name,
        speaker=str(row.get("speaker", speaker_of(entry))),
        split=split,
        audio=_file(str(row["sound"]), files.sounds, "sound file").path if "sound" in row else None,
        start=start or 0.0,
        end=end,
        crop=_box(row["box"]) if "box" in row else None,
        emotion=str(row["emotion"]) if "emotion" in row else None,
        level=None if level is None else int(level),
    )


def _file(name: str, files: dict[str, Entry], what: str) -> Entry:
    found = files.get(name) or files.get(os.path.normpath(name))
    if found is None:
        raise _RowError(f"{name} is no {what} below the source folder")
    return found


def _number(row: dict[str, Any], name: str) -> float | None:
    if name not in row:
        return None
    try:
        value = float(row[name])
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not math.isfinite(value):
        raise _RowError(f"{name} is {row[name]!r}, expected a number")
    return value


def _box(value: Any) -> tuple[int, int, int, int]:
    parts = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        left, top, width, height = (round(float(part)) for part in parts)
    except (TypeError, ValueError, OverflowError):
        width = height = 0
    if width <= 0 or height <= 0:
        raise _RowError(f"box is {value!r}, expected left, top, width and height in pixels")
    return left, top, width, height


def _problem(path: Path, number: int, row: dict[str, Any], reason: Reason, detail: str) -> ClipSource:
    name = PurePosixPath(f"{path.name}/row {number}")
    return ClipSource(
        key=path_key(name, always_hash=True), path=path, name=str(row.get("path", name)), speaker="", split="train",
        problem=reason, problem_detail=f"row {number}: {detail}",
    )  # fmt: skip


def _without_overlaps(clips: list[ClipSource]) -> list[ClipSource]:
    """Replaces spans that overlap an earlier span of the same video by problems."""
    found: list[ClipSource] = []
    taken: dict[Path, list[tuple[int, float, float]]] = {}
    for number, clip in enumerate(clips, 1):
        end = math.inf if clip.end is None else clip.end
        if clip.problem is None:
            spans = taken.setdefault(clip.path, [])
            if other := next((row for row, first, last in spans if clip.start < last and first < end), None):
                row = {"path": clip.name}
                clip = _problem(clip.path, number, row, Reason.DUPLICATE, f"overlaps row {other} of the same video")
            else:
                spans.append((number, clip.start, end))
        found.append(clip)
    return found
