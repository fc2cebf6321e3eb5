"""Landmark detector that reads a CSV file of OpenFace's FeatureExtraction next to the video.

``clip.mp4`` is read with ``clip.csv`` in the same folder. Required columns are ``timestamp`` in seconds and ``x_0 ..
x_67, y_0 .. y_67`` in pixels of the video. Optional columns are ``face_id``, ``confidence`` and ``success``; other
columns are ignored, and so is OpenFace's space before the names. Rows with equal timestamps are several faces.

Shapes: R rows, F frames, P = 68 landmarks.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np

from encoders.landmarks.boxes import bounding_boxes
from encoders.landmarks.following import same_place
from encoders.protocols import FPS, Face, Identity, LandmarkScheme, Tracking
from media.archives import open_file
from runtime.errors import UserError

POINTS = 68
COORDINATES = tuple(f"{axis}_{index}" for axis in "xy" for index in range(POINTS))
MIN_CONFIDENCE = 0.5
COMPARABLE = 0.5  # smallest height of a second face that counts, relative to the speaker's
MAX_COORDINATE = 1e6  # pixels; a row with a larger one, or one that is no number, is no face
MAX_FACES = 50  # rows with one timestamp
MIN_COVERED = 0.9  # smallest share of frames with a row in the file
HINT = "write it with OpenFace's FeatureExtraction -2Dfp, or use encoders.landmarks.name=mediapipe"


class LandmarkFileError(UserError):
    """Raised if a landmark file is missing, damaged or of another video; the message names the file."""


@dataclass(frozen=True)
class _Rows:
    """Content of a landmark file, sorted by time.

    Attributes:
        times: (R,) timestamps, seconds.
        ids: (R,) ids of the faces.
        good: (R,) bool, whether the face was tracked successfully.
        points: (R, 68, 2) landmarks, pixels.
    """

    times: np.ndarray
    ids: np.ndarray
    good: np.ndarray
    points: np.ndarray


class SidecarDetector:
    """``LandmarkDetector`` that reads OpenFace's CSV files: 68 points, no blendshapes, no download."""

    scheme: LandmarkScheme = "ibug68"

    def __init__(self) -> None:
        self.identity = Identity("sidecar")

    def detect(self, image: np.ndarray) -> list[Face]:
        """Raises, because a single image has no landmark file.

        Raises:
            LandmarkFileError: Always; the message names the alternative.
        """
        raise LandmarkFileError(
            "encoders.landmarks.name=sidecar reads landmarks from a file next to a video and cannot detect a face in a "
            "single image; use encoders.landmarks.name=mediapipe for portraits"
        )

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Reads the landmarks of the speaker, the face that is largest over the whole clip.

        Each frame takes the row nearest in time, at most half a source frame away. A row with ``success`` 0 or
        ``confidence`` below 0.5 counts as no face.

        Args:
            frames: (H, W, 3) uint8 RGB full frames at 25 fps; only their number and size are used.
            video: File that the frames come from; the landmark file has the same name with extension ``.csv``.
            start: Time of the first frame in the video, seconds.

        Raises:
            LandmarkFileError: If the file is missing or damaged, covers too few frames, or has landmarks outside the
                picture.
        """
        path = video.with_suffix(".csv")
        rows = _read(path)
        count, size = 0, (0, 0)
        for frame in frames:
            count, size = count + 1, (frame.shape[1], frame.shape[0])
        if not count:
            return Tracking([], 0.0, size)
        wanted = start + np.arange(count) / FPS
        nearest = _nearest(rows, wanted)
        covered = sum(near is not None for near in nearest)
        if covered < MIN_COVERED * count:
            raise LandmarkFileError(
                f"{path}: has rows for {covered} of the clip's {count} frames ({rows.times[0]:.2f} to "
                f"{rows.times[-1]:.2f} s; the clip spans {wanted[0]:.2f} to {wanted[-1]:.2f} s); it may belong to "
                f"another video; {HINT}"
            )
        seen = [[] if near is None else [row for row in near if rows.good[row]] for near in nearest]
        _require_in_picture(rows, seen, size, path)
        speaker = _speaker(rows, seen)
        faces = [
            next((Face(rows.points[row].astype(np.float32)) for row in near if rows.ids[row] == speaker), None)
            for near in seen
        ]
        several = [_several(rows, near, speaker) for near in seen]
        return Tracking(faces, float(np.mean(several)), size)


def _read(path: Path) -> _Rows:
    """Parses a landmark file. It may come from a stranger: lines are converted one at a time."""
    try:
        with open_file(path) as packed, TextIOWrapper(packed, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            names, table = _table(path, [name.strip() for name in next(reader, [])], reader)
    except FileNotFoundError:
        raise LandmarkFileError(f"{path}: no landmark file next to the video; {HINT}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LandmarkFileError(f"{path}: cannot be read as a CSV file ({error}); {HINT}") from error
    table = table[np.argsort(table[:, 0], kind="stable")]

    def column(name: str, default: float) -> np.ndarray:
        return table[:, names.index(name)] if name in names else np.full(len(table), default)

    points = table[:, -2 * POINTS :].reshape(-1, 2, POINTS).transpose(0, 2, 1)
    possible = (np.abs(points) < MAX_COORDINATE).all((1, 2))
    good = (column("confidence", 1) >= MIN_CONFIDENCE) & (column("success", 1) > 0) & possible
    if not np.isfinite(table[:, 0]).all():
        raise LandmarkFileError(f"{path}: has timestamps that are not numbers; {HINT}")
    if (most := int(np.unique(table[:, 0], return_counts=True)[1].max())) > MAX_FACES:
        raise LandmarkFileError(f"{path}: has {most} faces at one time, expected at most {MAX_FACES}; {HINT}")
    with np.errstate(invalid="ignore"):  # no number, or a large one: some id
        ids = column("face_id", 0).astype(int)
    return _Rows(table[:, 0], ids, good, points)


def _table(path: Path, header: list[str], reader: Any) -> tuple[list[str], np.ndarray]:
    """The names of the columns that are read, and (R, columns) their values."""
    absent = [name for name in ("timestamp", *COORDINATES) if name not in header]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise LandmarkFileError(f"{path}: lacks the columns {', '.join(absent[:3])}{more}; {HINT}")
    names = ["timestamp", *(name for name in ("face_id", "confidence", "success") if name in header), *COORDINATES]
    places = [header.index(name) for name in names]
    values = array("d")
    for line in filter(None, reader):
        try:
            values.extend([float(line[place]) for place in places])
        except (ValueError, IndexError) as error:
            raise LandmarkFileError(
                f"{path}: line {reader.line_num} is damaged ({error}; {len(line)} of {len(header)} columns); {HINT}"
            ) from error
    if not values:
        raise LandmarkFileError(f"{path}: has no rows; {HINT}")
    return names, np.array(values).reshape(-1, len(names))


def _nearest(rows: _Rows, wanted: np.ndarray) -> list[list[int] | None]:
    """Returns, for each time, the nearest rows, one per face; None if none is within half a source frame."""
    times, first, counts = np.unique(rows.times, return_index=True, return_counts=True)
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 1 / FPS
    right = np.searchsorted(times, wanted).clip(1, max(1, len(times) - 1))
    left = right - 1
    right = right.clip(0, len(times) - 1)
    best = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    # OpenFace rounds timestamps to three decimals.
    near = np.abs(times[best] - wanted) <= interval / 2 + 1e-3
    return [
        list(range(first[index], first[index] + counts[index])) if close else None
        for index, close in zip(best, near, strict=True)
    ]


def _heights(rows: _Rows) -> np.ndarray:
    return np.ptp(rows.points[..., 1], axis=1)


def _speaker(rows: _Rows, seen: list[list[int]]) -> int:
    """Returns the face id with the largest sum of heights over all frames."""
    heights = _heights(rows)
    total: dict[int, float] = {}
    for row in (row for near in seen for row in near):
        total[int(rows.ids[row])] = total.get(int(rows.ids[row]), 0.0) + float(heights[row])
    return max(sorted(total), key=lambda face: total[face], default=0)


def _several(rows: _Rows, near: list[int], speaker: int) -> bool:
    """Whether the rows of a frame have a second face of comparable size."""
    boxes = {int(rows.ids[row]): bounding_boxes(rows.points[row]) for row in near}
    if speaker not in boxes:
        return False
    here = boxes.pop(speaker)
    smallest = COMPARABLE * (here[3] - here[1])
    return any(box[3] - box[1] >= smallest and not same_place(box, here) for box in boxes.values())


def _require_in_picture(rows: _Rows, seen: list[list[int]], size: tuple[int, int], path: Path) -> None:
    """Raises if most face centres lie outside the picture, as for landmarks of another resolution."""
    used = sorted({row for near in seen for row in near})
    if not used:
        return
    centres = rows.points[used].mean(1)
    outside = float(((centres < 0) | (centres > np.array(size))).any(1).mean())
    if outside > 0.5:
        raise LandmarkFileError(
            f"{path}: {outside:.0%} of its faces lie outside the {size[0]}x{size[1]} picture (the first at "
            f"{centres[0][0]:.0f}, {centres[0][1]:.0f}); it was made from another resolution of the video; {HINT}"
        )
