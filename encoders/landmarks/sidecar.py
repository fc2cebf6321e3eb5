"""Landmarks from a file beside the video, in the CSV format that OpenFace's FeatureExtraction writes.

``clip.mp4`` is read with ``clip.csv`` in the same folder. Columns (OpenFace writes a space before most names):
``timestamp`` in seconds, ``x_0 .. x_67, y_0 .. y_67`` in pixels of the video, and where there are such ``face_id``,
``confidence`` and ``success``; others are passed over. Several rows with one timestamp are several faces.

Shapes: R rows, F frames, P = 68 landmarks.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoders.landmarks.boxes import bounding_boxes
from encoders.landmarks.following import same_place
from encoders.protocols import FPS, Face, Identity, LandmarkScheme, Tracking
from runtime.errors import UserError

POINTS = 68
COORDINATES = tuple(f"{axis}_{index}" for axis in "xy" for index in range(POINTS))
MIN_CONFIDENCE = 0.5
COMPARABLE = 0.5  # a second face counts from this share of the speaker's height on
MIN_COVERED = 0.9  # share of the frames the file must have rows for
HINT = "write it with OpenFace's FeatureExtraction -2Dfp, or use encoders.landmarks.name=mediapipe"


class LandmarkFileError(UserError):
    """A landmark file that is missing, damaged, or another video's; the message names the file."""


@dataclass(frozen=True)
class _Rows:
    """The usable content of a landmark file, in the order of time.

    Attributes:
        times: (R,) seconds.
        ids: (R,) which face.
        good: (R,) bool, whether the face was tracked well there.
        points: (R, 68, 2) pixels.
    """

    times: np.ndarray
    ids: np.ndarray
    good: np.ndarray
    points: np.ndarray


class SidecarDetector:
    """``LandmarkDetector`` that reads OpenFace CSV files: 68 points, no blendshapes, nothing to download."""

    scheme: LandmarkScheme = "ibug68"

    def __init__(self) -> None:
        self.identity = Identity("sidecar")

    def detect(self, image: np.ndarray) -> list[Face]:
        """A single image has no landmark file.

        Raises:
            LandmarkFileError: always, with what to use instead.
        """
        raise LandmarkFileError(
            "encoders.landmarks.name=sidecar reads landmarks from a file beside a video and cannot find a face in a "
            "single image; use encoders.landmarks.name=mediapipe for portraits"
        )

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Reads the speaker's landmarks: the face that is largest over the whole clip.

        Every frame takes the row nearest in time, at most half a source frame away; a row with ``success`` 0 or
        ``confidence`` below 0.5 counts as no face.

        Args:
            frames: (H, W, 3) uint8 RGB at 25 fps, whole pictures of the video; only counted and measured.
            video: the file they come from; its landmarks stand beside it with the ending ``.csv``.
            start: time of the first frame in the video, seconds.

        Raises:
            LandmarkFileError: if the file is missing or damaged, covers too little of the clip, or its landmarks lie
                outside the picture.
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
                f"{rows.times[-1]:.2f} s; the clip spans {wanted[0]:.2f} to {wanted[-1]:.2f} s); it belongs to another "
                f"or a longer video; {HINT}"
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
    """Parses a landmark file."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            lines = [(reader.line_num, line) for line in reader if line]
    except FileNotFoundError:
        raise LandmarkFileError(f"{path}: no landmark file beside the video; {HINT}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LandmarkFileError(f"{path}: cannot be read as a CSV file ({error}); {HINT}") from error
    absent = [name for name in ("timestamp", *COORDINATES) if name not in header]
    if absent:
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        raise LandmarkFileError(f"{path}: lacks the columns {', '.join(absent[:3])}{more}; {HINT}")
    if not lines:
        raise LandmarkFileError(f"{path}: holds no rows; {HINT}")
    names = ["timestamp", *(name for name in ("face_id", "confidence", "success") if name in header), *COORDINATES]
    places = [header.index(name) for name in names]
    table = np.empty((len(lines), len(names)))
    for row, (number, line) in enumerate(lines):
        try:
            table[row] = [float(line[place]) for place in places]
        except (ValueError, IndexError) as error:
            raise LandmarkFileError(
                f"{path}: line {number} is damaged ({error}; {len(line)} of {len(header)} columns); {HINT}"
            ) from error
    table = table[np.argsort(table[:, 0], kind="stable")]

    def column(name: str, default: float) -> np.ndarray:
        return table[:, names.index(name)] if name in names else np.full(len(table), default)

    points = table[:, -2 * POINTS :].reshape(-1, 2, POINTS).transpose(0, 2, 1)
    good = (column("confidence", 1) >= MIN_CONFIDENCE) & (column("success", 1) > 0) & np.isfinite(points).all((1, 2))
    if not np.isfinite(table[:, 0]).all():
        raise LandmarkFileError(f"{path}: has timestamps that are not numbers; {HINT}")
    return _Rows(table[:, 0], column("face_id", 0).astype(int), good, points)


def _nearest(rows: _Rows, wanted: np.ndarray) -> list[list[int] | None]:
    """For each time the rows nearest to it, one per face, or None where none is within half a source frame."""
    times, first, counts = np.unique(rows.times, return_index=True, return_counts=True)
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 1 / FPS
    right = np.searchsorted(times, wanted).clip(1, max(1, len(times) - 1))
    left = right - 1
    right = right.clip(0, len(times) - 1)
    best = np.where(np.abs(times[left] - wanted) <= np.abs(times[right] - wanted), left, right)
    # OpenFace prints three decimals.
    near = np.abs(times[best] - wanted) <= interval / 2 + 1e-3
    return [
        list(range(first[index], first[index] + counts[index])) if close else None
        for index, close in zip(best, near, strict=True)
    ]


def _heights(rows: _Rows) -> np.ndarray:
    return np.ptp(rows.points[..., 1], axis=1)


def _speaker(rows: _Rows, seen: list[list[int]]) -> int:
    """The face_id that fills most of the clip: sum of its heights over the frames it is seen in."""
    heights = _heights(rows)
    total: dict[int, float] = {}
    for row in (row for near in seen for row in near):
        total[int(rows.ids[row])] = total.get(int(rows.ids[row]), 0.0) + float(heights[row])
    return max(sorted(total), key=lambda face: total[face], default=0)


def _several(rows: _Rows, near: list[int], speaker: int) -> bool:
    """Whether a frame's rows hold a face of comparable size beside the speaker."""
    boxes = {int(rows.ids[row]): bounding_boxes(rows.points[row]) for row in near}
    if speaker not in boxes:
        return False
    here = boxes.pop(speaker)
    smallest = COMPARABLE * (here[3] - here[1])
    return any(box[3] - box[1] >= smallest and not same_place(box, here) for box in boxes.values())


def _require_in_picture(rows: _Rows, seen: list[list[int]], size: tuple[int, int], path: Path) -> None:
    """Refuses landmarks made at another resolution: their faces' centres lie outside the picture."""
    used = sorted({row for near in seen for row in near})
    if not used:
        return
    centres = rows.points[used].mean(1)
    outside = float(((centres < 0) | (centres > np.array(size))).any(1).mean())
    if outside > 0.5:
        raise LandmarkFileError(
            f"{path}: {outside:.0%} of its faces lie outside the {size[0]}x{size[1]} picture (the first at "
            f"{centres[0][0]:.0f}, {centres[0][1]:.0f}); it was made from another size of this video; {HINT}"
        )
