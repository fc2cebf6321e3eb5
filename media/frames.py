"""Pictures of a video at a constant rate, chosen by their timestamps.

Output frame n belongs to time t = start + n / fps on the clip's clock (``timeline.py``) and is the source frame whose
timestamp is nearest to t, the earlier of two equally near, but never one that appears more than half a frame interval
after t (a picture held for a second stays until the next one comes). For sources of constant rate the picture is
therefore at most half a source frame away from t, and timestamps rounded to milliseconds do no harm. Before the first
picture, the first one is shown. There are floor((end - start) * fps + 1/2) frames, at least one.

Before the first frame is handed out, PyAV decodes the pictures once without converting them, with every decoding error
fatal: neither decord nor a plain FFmpeg decoder says when it has patched over damage. That pass also gives the true
times of the frames and, for each, a sparse sample of its luma against which decord's frames are checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from media import decord_frames, pyav_frames
from media.frame_scan import check
from media.source import MediaError
from media.timeline import Timeline, read_timeline

_SAME = 1e-6  # seconds; two times closer than this are equal


class FrameReader:
    """The pictures of one video at a constant rate; iterate for (H, W, 3) uint8 RGB, upright.

    Iterating again decodes again; no more than a few frames are held at a time.

    Args:
        path: the video file, any container and codec FFmpeg reads.
        start: where to begin, seconds on the clip's clock.
        end: where to stop, seconds; None for the end of the pictures.
        fps: output frames per second.
        timeout: longest wait for decord to open the file or to give one frame, seconds; then PyAV takes over.

    Attributes:
        times: (F,) float64, the time on the clip's clock of the source frame behind each output frame, seconds.
        size: (width, height) in pixels.
        backend: ``decord``, or ``pyav`` once PyAV has taken over.
        fallback: why PyAV took over, or None.

    Raises:
        MediaError: when the file cannot be opened, holds no video, is damaged or cut short, or ends before ``end``.
        ValueError: when ``start`` is negative or not before ``end``.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: float = 0.0,
        end: float | None = None,
        fps: float = 25.0,
        timeout: float = 20.0,
    ) -> None:
        if start < 0 or (end is not None and end <= start) or fps <= 0:
            raise ValueError(f"expected 0 <= start < end and fps > 0, found start={start}, end={end}, fps={fps}")
        self.timeout = timeout
        self.backend = "decord"
        self.fallback: str | None = None
        timeline = read_timeline(path)
        self.path = timeline.path
        grid = _grid(timeline, start, end, fps)
        self._shown = check(timeline, float(grid[0]), float(grid[-1]))
        self._picks = _nearest(self._shown.times, grid, fps)
        self.times = self._shown.times[self._picks]
        self.size = self._shown.size

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self._picks)

    def __iter__(self) -> Iterator[np.ndarray]:
        given = 0
        if self.fallback is None:
            try:
                for frame in decord_frames.read(self._shown, self._picks, self.timeout):
                    yield frame
                    given += 1
                return
            except decord_frames.DecordError as error:
                self.backend, self.fallback = "pyav", str(error)
        # What decord gave so far was checked, so PyAV goes on where it stopped.
        yield from pyav_frames.read(self._shown, self._picks[given:])


def read_frames(
    path: str | Path, *, start: float = 0.0, end: float | None = None, fps: float = 25.0, timeout: float = 20.0
) -> Iterator[np.ndarray]:
    """The pictures of a video at a constant rate: ``FrameReader`` as a plain iterator of (H, W, 3) uint8 RGB.

    Raises:
        MediaError: before the first frame, when the video is unreadable, damaged or too short.
    """
    return iter(FrameReader(path, start=start, end=end, fps=fps, timeout=timeout))


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


def _nearest(times: np.ndarray, grid: np.ndarray, fps: float) -> np.ndarray:
    """(F,) index into the (M,) ascending source ``times`` of the frame to show at each time of the (F,) ``grid``."""
    before = np.clip(np.searchsorted(times, grid + _SAME, side="right") - 1, 0, None)
    after = np.minimum(before + 1, len(times) - 1)
    interval = max(1 / fps, float(np.median(np.diff(times))) if len(times) > 1 else 0.0)
    ahead = times[after] - grid
    sooner = (ahead < np.abs(grid - times[before]) - _SAME) & (ahead <= interval / 2 + _SAME)
    return np.where(sooner, after, before)
