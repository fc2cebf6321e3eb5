"""Pictures of a video at a constant rate, chosen by their timestamps.

Output frame n belongs to time t = start + n / fps on the clip's clock (``timeline.py``) and is the source frame whose
timestamp is nearest to t, the earlier of two equally near, but never one that appears more than half a frame interval
after t (a picture held for a second stays until the next one comes). For sources of constant rate the picture is
therefore at most half a source frame away from t, and timestamps rounded to milliseconds do no harm. Before the first
picture, the first one is shown. There are floor((end - start) * fps + 1/2) frames, at least one.

Two readers implement this. ``pyav`` decodes once and checks each picture before it hands it out; ``decord`` decodes
what PyAV has checked before. The default is the faster one by tools/profiling/reports/2026-11-28-readers.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from media import decord_frames, pyav_frames
from media.probe import probe
from media.source import MediaError
from media.timeline import Timeline, read_timeline

# Both take (timeline, grid, fps) and yield time and picture for every time of the grid.
READERS: dict[str, Callable[[Timeline, np.ndarray, float], Iterator[tuple[float, np.ndarray]]]] = {
    "pyav": pyav_frames.read,
    "decord": decord_frames.read,
}


class FrameReader:
    """The pictures of one video at a constant rate; iterate for (H, W, 3) uint8 RGB.

    They are shown as they are meant (``media.display``): upright, with square pixels, without fields, in BT.709.

    Iterating again decodes again; no more than a few frames are held at a time. Damage is found while iterating: the
    frames before it are right, none is handed out after it.

    Args:
        path: Video file, any container and codec FFmpeg reads.
        start: Begin of the span on the clip's clock, seconds.
        end: End of the span on the clip's clock, seconds; None for the end of the pictures.
        fps: Output frames per second.
        reader: Name of the frame reader, ``pyav`` or ``decord``.

    Attributes:
        times: Times on the clip's clock of the source frames given so far, seconds.
        keys: Whether a keyframe of the encoder's regular interval lies between the source frame of each frame and the
            one before. Keyframes that come earlier mark a change of the picture, and do not count.

    Raises:
        MediaError: when the file cannot be opened, holds no video, is cut short, or ends before ``end``; while
            iterating, when a picture is damaged or missing.
        ValueError: when ``start`` is negative or not before ``end``, or there is no such reader.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float = 25.0,
        reader: str = "pyav",
    ) -> None:
        if start < 0 or (end is not None and end <= start) or fps <= 0:
            raise ValueError(f"expected 0 <= start < end and fps > 0, found start={start}, end={end}, fps={fps}")
        if reader not in READERS:
            raise ValueError(f"reader={reader}: expected one of {', '.join(READERS)}")
        self.fps = fps
        self.times: list[float] = []
        self.keys: list[bool] = []
        self._read = READERS[reader]
        self._timeline = read_timeline(path)
        self._grid = _grid(self._timeline, start, end, fps)

    @property
    def path(self) -> Path:
        """The absolute path of the file."""
        return self._timeline.path

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in square pixels, upright; decodes the first picture.

        Raises:
            MediaError: when it cannot be decoded.
        """
        info = probe(self.path)
        return info.width, info.height

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._grid)

    def __iter__(self) -> Iterator[np.ndarray]:
        self.times, self.keys = [], []
        keyframes = _regular_keyframes(self._timeline)
        passed: int | None = None
        for time, picture in self._read(self._timeline, self._grid, self.fps):
            now = int(np.searchsorted(keyframes, time + 1e-6))
            self.times.append(time)
            self.keys.append(passed is not None and now > passed)
            passed = now
            yield picture

    def check(self) -> None:
        """Decodes the pictures of the span without converting them.

        Raises:
            MediaError: when a picture cannot be decoded, is damaged or missing, or has another size than the first.
        """
        for _ in pyav_frames.checked(self._timeline, float(self._grid[0]), float(self._grid[-1])):
            pass


def read_frames(
    path: str | Path, *, start: float = 0.0, end: float | None = None, fps: float = 25.0
) -> Iterator[np.ndarray]:
    """The pictures of a video at a constant rate: ``FrameReader`` as a plain iterator of (H, W, 3) uint8 RGB.

    Raises:
        MediaError: when the video is unreadable or too short; while iterating, when a picture is damaged or missing.
    """
    return iter(FrameReader(path, start=start, end=end, fps=fps))


def _regular_keyframes(timeline: Timeline) -> np.ndarray:
    """Times on the clip's clock of the keyframes that come after the longest interval without one, seconds.

    None where every fifth picture is a keyframe, as in codecs without other pictures.
    """
    pictures = timeline.pictures
    if pictures is None or not 1 < len(pictures.keyframes) <= len(pictures.times) / 5:
        return np.zeros(0)
    intervals = np.diff(pictures.keyframes)
    longest = max(int(intervals.max()), int(pictures.times[-1] - pictures.keyframes[-1]))
    regular = pictures.keyframes[1:][intervals >= 0.98 * longest]
    return np.asarray(regular * float(pictures.time_base) - float(timeline.zero))


def _grid(timeline: Timeline, start: float, end: float | None, fps: float) -> np.ndarray:
    """(F,) times of the output frames, seconds on the clip's clock."""
    pictures = timeline.pictures
    if pictures is None:
        raise MediaError(f"{timeline.path}: has no video track, only sound; expected a video")
    last = pictures.end * pictures.time_base - timeline.zero
    rate = Fraction(fps).limit_denominator(100_000)
    begin = Fraction(start).limit_denominator(1_000_000)
    stop = last if end is None else Fraction(end).limit_denominator(1_000_000)
    if begin >= last or stop > last + 1 / (2 * rate):  # half an output frame is rounding
        span = f"{start:.3f} s to {'the end' if end is None else f'{end:.3f} s'}"
        raise MediaError(
            f"{timeline.path}: its pictures end at {float(last):.3f} s, {span} was asked for; check these times"
        )
    count = max(1, math.floor((stop - begin) * rate + Fraction(1, 2)))
    return float(begin) + np.arange(count) / float(rate)
