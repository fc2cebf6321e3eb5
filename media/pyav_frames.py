"""One pass of PyAV over the pictures of a span: decodes them, checks each, and converts those that are asked for.

Every decoding error is fatal, because a plain FFmpeg decoder conceals damage without a word. A picture is handed out
only after it, and all before it, were found whole, so whatever was read before an error is right.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av
import numpy as np

from media.display import Display, deinterlaced
from media.source import MediaError, decoder_options, opened, seconds, video_stream
from media.timeline import Timeline

Picture = TypeVar("Picture")

_THREADS = 2  # decoding threads; several workers run at a time
_FROZEN = Fraction(1, 5)  # seconds for which pictures may be missing
_LEAD_IN = 2.0  # seconds decoded before a span, so that its first pictures have what they refer to
_REORDERED = 16  # pictures held to sort their times, where a file stores decoding times only (H.264's largest delay)
_SAME = 1e-6  # seconds; two times closer than this are equal


def read(timeline: Timeline, grid: np.ndarray, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """The picture to show at each time of the grid.

    Args:
        timeline: The file's timeline.
        grid: (F,) ascending times on the clip's clock, seconds.
        fps: Output frames per second.

    Yields:
        The source picture's own time in seconds and its (H, W, 3) uint8 RGB, as of ``Display``.

    Raises:
        MediaError: when a picture cannot be decoded, is damaged or missing, or has another size than the first.
    """
    assert timeline.pictures is not None
    display = Display(timeline.pictures.aspect)
    pictures = deinterlaced(checked(timeline, float(grid[0]), float(grid[-1])))
    for time, frame in nearest(pictures, grid, longest_interval(timeline, fps)):
        yield time, display(frame)


def checked(timeline: Timeline, start: float, stop: float, seek: bool = True) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decodes the pictures shown around [start, stop], up to the first one after ``stop``.

    Args:
        timeline: The file's timeline.
        start: Begin of the span on the clip's clock, seconds.
        stop: End of the span on the clip's clock, seconds.
        seek: Whether decoding may start at a keyframe before the span instead of at the beginning of the file.

    Yields:
        Time on the clip's clock in seconds, and the picture.

    Raises:
        MediaError: when a picture cannot be decoded, is damaged or missing, or has another size than the first.
    """
    pictures = timeline.pictures
    assert pictures is not None
    first, last = (round((Fraction(t) + timeline.zero) / pictures.time_base) for t in (start, stop))
    begin, safe = _entry(pictures.keyframes, first, round(_LEAD_IN / pictures.time_base))
    if not seek:
        begin, safe = None, pictures.start
    wanted = pictures.times[(pictures.times >= safe) & (pictures.times <= last)]
    frozen = int(_FROZEN / pictures.time_base)
    ticks: list[int] = []
    sizes: set[tuple[int, int]] = set()
    bad: list[str] = []
    frames = _in_order(_decode(timeline.path, begin, safe, bad), 0 if len(pictures.keyframes) else _REORDERED)
    for tick, frame in frames:
        sizes.add((frame.width, frame.height))
        if tick < safe:
            continue
        if begin is not None and not ticks and tick > first:
            break
        if _gap(wanted, ticks, tick, frozen):
            bad.append("the others refer to pictures that are not in the file")
        ticks.append(tick)
        if not bad and len(sizes) == 1:  # otherwise goes on to count what can be read
            yield tick * float(pictures.time_base) - float(timeline.zero), frame
        if tick > last:
            break
    if begin is not None and not (ticks and ticks[0] <= first):  # the file's index is wrong
        yield from checked(timeline, start, stop, seek=False)
        return
    if not ticks:
        bad.append("no picture came out")
    elif _gap(wanted, ticks, np.iinfo(np.int64).max, frozen):
        bad.append("the others refer to pictures that are not in the file")
    if bad:
        raise MediaError(
            f"{timeline.path}: {np.isin(wanted, ticks).sum()} of {len(wanted)} pictures could be decoded "
            f"(first problem: {bad[0]}); fetch or copy the file again"
        )
    if len(sizes) > 1:
        raise MediaError(f"{timeline.path}: its picture size changes on the way ({sorted(sizes)}); re-encode it")


def nearest(
    pictures: Iterable[tuple[float, Picture]], grid: np.ndarray, interval: float
) -> Iterator[tuple[float, Picture]]:
    """The picture to show at each time of the grid.

    That is the nearest one, the earlier of two equally near, but none that appears more than half an interval later.

    Args:
        pictures: Time in seconds, ascending, and picture.
        grid: (F,) ascending times, seconds.
        interval: Longest frame interval of source and output, seconds.
    """
    place = 0
    before: tuple[float, Picture] | None = None
    for now in pictures:
        while place < len(grid) and (ahead := now[0] - grid[place]) > _SAME:
            sooner = before is None or (ahead < grid[place] - before[0] - _SAME and ahead <= interval / 2 + _SAME)
            yield now if before is None or sooner else before
            place += 1
        if place == len(grid):
            return
        before = now
    if before is not None:
        for _ in range(place, len(grid)):
            yield before


def longest_interval(timeline: Timeline, fps: float) -> float:
    """The longer one of the output's and the source's frame interval, seconds."""
    pictures = timeline.pictures
    assert pictures is not None
    gaps = np.diff(pictures.times)
    return max(1 / fps, float(np.median(gaps)) * float(pictures.time_base) if len(gaps) else 0.0)


def _decode(path: Path, begin: int | None, safe: int, bad: list[str]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes pictures in the order they are shown, each with its timestamp in ticks.

    What fails to decode at or after ``safe`` ticks is added to ``bad``.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _THREADS
        stream.codec_context.options = decoder_options(err_detect="explode")
        if begin is not None:
            container.seek(begin, stream=stream)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if packet.pts is None or packet.pts >= safe:
                    at = "" if packet.pts is None else f" at {float(seconds(packet.pts, stream.time_base)):.2f} s"
                    bad.append(f"{error.strerror or error}{at}")
                continue
            for frame in frames:
                if frame.pts is None:
                    bad.append("a picture without a time")
                elif frame.is_corrupt and frame.pts >= safe:
                    bad.append(f"damaged picture at {float(seconds(frame.pts, stream.time_base)):.2f} s")
                else:
                    yield frame.pts, frame


def _in_order(frames: Iterable[tuple[int, av.VideoFrame]], depth: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Gives the pictures, which come in order, their times in ascending order; AVI's do not follow B-frames."""
    ticks: list[int] = []
    held: deque[av.VideoFrame] = deque()
    latest = np.iinfo(np.int64).min
    for tick, frame in frames:
        heapq.heappush(ticks, tick)
        held.append(frame)
        if len(held) > depth:
            latest = max(latest, heapq.heappop(ticks))
            yield latest, held.popleft()
    while held:
        latest = max(latest, heapq.heappop(ticks))
        yield latest, held.popleft()


def _gap(wanted: np.ndarray, ticks: list[int], tick: int, frozen: int) -> bool:
    """Whether a wanted picture is more than ``frozen`` ticks after the last of ``ticks`` and before ``tick``.

    Decoders skip pictures that refer to others which were cut away; a few are harmless, seconds would stand still.
    """
    after = np.searchsorted(wanted, ticks[-1] + frozen, side="right") if ticks else 0
    return bool(after < np.searchsorted(wanted, tick - frozen))


def _entry(keyframes: np.ndarray, tick: int, lead_in: int) -> tuple[int | None, int]:
    """Where to start decoding for a picture at ``tick``, and from which time on every picture must be whole."""
    earlier = keyframes[keyframes <= tick]
    lead = keyframes[keyframes <= tick - lead_in]
    lead = lead[lead < earlier[-1]] if len(earlier) else lead
    if not len(lead):
        return None, np.iinfo(np.int64).min
    return int(lead[-1]), int(earlier[-1])
