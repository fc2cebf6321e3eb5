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

``scan/chosen.csv`` is such a list. A row with an error becomes a clip that failed; the others are used.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import textwrap
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from configs.preparation import DatasetConfig
from datamodules.schema import SPLITS
from datamodules.splits.clip_names import EMOTIONS
from preparation.clip_source import ClipSource, Reason
from preparation.layouts.dataset import Dataset
from preparation.layouts.folder import speaker_of
from preparation.layouts.list_rows import Row, RowError, read_rows
from preparation.layouts.listing import Entry, LayoutError, Listing, path_key
from preparation.layouts.mead import EMOTION_OF
from runtime.errors import printable

COLUMNS = ("path", "start", "end", "speaker", "emotion", "level", "split", "sound", "box")
NAMED = 3  # rows that a note names
ONE_PERSON = 0.5  # share of the smaller of two boxes from which they show the same person
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Files:
    """Files of the source folder by relative and by absolute path, and why others cannot be read."""

    videos: dict[str, Entry]
    sounds: dict[str, Entry]
    problems: dict[str, str]

    @classmethod
    def of(cls, listing: Listing) -> _Files:
        videos, sounds = (
            {name: entry for entry in entries for name in (str(entry.relative), os.path.abspath(entry.path))}
            for entries in (listing.videos, listing.sounds)
        )
        problems = {
            name: clip.problem_detail for clip in listing.problems for name in (clip.name, os.path.abspath(clip.path))
        }
        return cls(videos, sounds, problems)


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
        rows, others = read_rows(path, COLUMNS)
        found = _without_overlaps([_clip_or_error(row, files) for row in rows])
        clips = [
            _problem(path, number, row, clip) if isinstance(clip, RowError) else clip
            for number, (row, clip) in enumerate(zip(rows, found, strict=True), 1)
        ]
        used = {clip.path for clip in clips}
        if unlisted := sum(entry.path not in used for entry in listing.videos):
            listing.ignored["videos that are not in the list"] += unlisted
        if listing.problems:  # the row of a listed one names its problem
            listing.ignored["files and folders that cannot be read"] += len(listing.problems)
            listing.problems.clear()
        return clips, _notes(path, clips, others)


def _notes(path: Path, clips: Sequence[ClipSource], others: Sequence[str]) -> list[str]:
    notes = [f"{path}: columns that are not used: {printable(', '.join(sorted(others)))}"] if others else []
    emotions = Counter(clip.emotion for clip in clips if clip.emotion not in (None, *EMOTIONS))
    if emotions:
        named = ", ".join(f"{printable(str(name))} ({count})" for name, count in emotions.most_common(NAMED))
        notes.append(
            f"{path}: emotions that are not among {', '.join(EMOTIONS)}: {named}; training takes them for none"
        )
    if wrong := [clip.problem_detail for clip in clips if clip.problem is not None]:
        named = "; ".join(wrong[:NAMED]) + ("; ..." if len(wrong) > NAMED else "")
        notes.append(f"{path}: {len(wrong)} of {len(clips)} rows have errors: {named}")
    return notes


def _clip_or_error(row: Row | RowError, files: _Files) -> ClipSource | RowError:
    if isinstance(row, RowError):
        return row
    try:
        return _clip(row, files)
    except RowError as error:
        return error


def _clip(row: Row, files: _Files) -> ClipSource:
    if "path" not in row:
        raise RowError("has no path")
    entry = _file(row, "path", files.videos, files.problems, "video")
    start, end = _number(row, "start"), _number(row, "end")
    if (start or 0) < 0 or (end is not None and end <= (start or 0)):
        raise RowError(f"start is {row.get('start', 0)} and end {row.get('end')}, expected 0 <= start < end")
    level = _number(row, "level")
    if level not in (None, 1, 2, 3):
        raise RowError(f"level is {_shown(row['level'])}, expected 1, 2 or 3")
    split = _text(row, "split") or ""
    if split and split not in SPLITS:
        raise RowError(f"split is {split}, expected {', '.join(SPLITS)}")
    emotion = _text(row, "emotion")
    span = ""
    if start is not None or end is not None:
        span = f"--{round((start or 0) * 1000):07d}" + ("" if end is None else f"-{round(end * 1000):07d}")
    return ClipSource(
        key=path_key(entry.relative, span),
        path=entry.path,
        name=entry.name,
        speaker=_text(row, "speaker") or speaker_of(entry),
        split=split,
        audio=_file(row, "sound", files.sounds, {}, "sound file").path if "sound" in row else None,
        start=start or 0.0,
        end=end,
        crop=_box(row["box"]) if "box" in row else None,
        emotion=emotion and EMOTION_OF.get(emotion.lower(), emotion),
        level=None if level is None else int(level),
    )


def _text(row: Row, name: str) -> str | None:
    """A name; a number is one, too."""
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():  # as tables write whole numbers with gaps
        value = int(value)
    text = str(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not text.isprintable():
        raise RowError(f"{name} is {_shown(value)}, expected a text in UTF-8")
    return text


def _shown(value: Any) -> str:
    return textwrap.shorten(repr(value), 80, placeholder="...")


def _file(row: Row, column: str, files: dict[str, Entry], problems: dict[str, str], what: str) -> Entry:
    name = row[column]
    if not isinstance(name, str):
        raise RowError(f"{column} is {_shown(name)}, expected the path of a {what}")
    found = files.get(name) or files.get(os.path.normpath(name))
    if found is None:
        raise RowError(problems.get(name, f"{printable(name)} is no {what} below the source folder"))
    return found


def _number(row: Row, name: str) -> float | None:
    if name not in row:
        return None
    value = math.nan
    if not isinstance(row[name], bool):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            value = float(row[name])
    if not math.isfinite(value):
        raise RowError(f"{name} is {_shown(row[name])}, expected a number, e.g. 1.5")
    return value


def _box(value: Any) -> Box:
    parts = value.strip("[]() ").replace(",", " ").split() if isinstance(value, str) else value
    try:
        left, top, width, height = (round(float(part)) for part in parts)
    except (TypeError, ValueError, OverflowError):
        width = height = 0
    if width <= 0 or height <= 0:
        raise RowError(f"box is {_shown(value)}, expected left, top, width and height in pixels")
    return left, top, width, height


def _problem(path: Path, number: int, row: Row | RowError, error: RowError) -> ClipSource:
    name = f"{path.name}/row {number}"
    listed = row.get("path") if isinstance(row, dict) else None
    return ClipSource(
        key=path_key(PurePosixPath(name), always_hash=True), path=path,
        name=printable(listed) if isinstance(listed, str) else name, speaker="", split="train",
        problem=Reason.BAD_ROW, problem_detail=f"row {number}: {error}",
    )  # fmt: skip


def _without_overlaps(clips: Sequence[ClipSource | RowError]) -> list[ClipSource | RowError]:
    """Replaces spans that overlap an earlier span of the same video and person by errors."""
    found: list[ClipSource | RowError] = []
    taken: defaultdict[Path, list[tuple[int, float, float, Box | None]]] = defaultdict(list)
    keys: dict[str, int] = {}
    for number, clip in enumerate(clips, 1):
        if isinstance(clip, RowError):
            found.append(clip)
            continue
        first, last = clip.start, math.inf if clip.end is None else clip.end
        spans = taken[clip.path]
        other = next((row for row, start, end, box in spans
                      if first < end and start < last and _same_person(box, clip.crop)), None)  # fmt: skip
        if other is not None:
            found.append(RowError(f"overlaps row {other} of the same video"))
            continue
        if clip.key in keys and clip.crop is not None:  # of another person in the same pictures
            clip = replace(clip, key=f"{clip.key}-{hashlib.sha256(repr(clip.crop).encode()).hexdigest()[:3]}")
        if (other := keys.setdefault(clip.key, number)) != number:
            found.append(
                RowError(f"gives the same key as row {other}, {clip.key}; change its span or rename its video")
            )
            continue
        spans.append((number, first, last, clip.crop))
        found.append(clip)
    return found


def _same_person(one: Box | None, other: Box | None) -> bool:
    """Whether two boxes in the same pictures show the same person; no box is the whole picture."""
    if one is None or other is None:
        return True
    width, height = (min(one[side] + one[side + 2], other[side] + other[side + 2]) - max(one[side], other[side])
                     for side in (0, 1))  # fmt: skip
    return max(width, 0) * max(height, 0) > ONE_PERSON * min(one[2] * one[3], other[2] * other[3])
