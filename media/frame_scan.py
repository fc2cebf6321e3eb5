"""Which pictures of a span are shown and whether they are sound: one pass of PyAV that decodes without converting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from media.source import MediaError, opened, seconds, video_stream
from media.timeline import Timeline

_GRID = 32  # luma is sampled at 32 x 32 places
_THREADS = 2  # decoding threads; workers run beside each other
_FROZEN = Fraction(1, 5)  # seconds for which pictures may be missing
_LEAD_IN = 2.0  # seconds decoded before a span, so that its first pictures have what they refer to
_WEIGHTS = {  # red and blue weight of luma by AVColorSpace: BT.709, unspecified, BT.470BG, SMPTE 170M, BT.2020
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    9: (0.2627, 0.0593),
}
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG


@dataclass(frozen=True)
class Luma:
    """A sparse sample of every picture's luma, to recognise it in another decoder's output.

    Attributes:
        values: (M, 1024) float32 in [0, 255], 0 black and 255 white.
        weights: red and blue weight of luma.
    """

    values: np.ndarray
    weights: tuple[float, float]


@dataclass(frozen=True)
class Shown:
    """The pictures shown in a span.

    Attributes:
        time_base: seconds per tick of the timestamps.
        first: timestamp of the first picture of the whole file, ticks.
        ticks: (M,) timestamps, ascending.
        times: (M,) float64 seconds on the clip's clock.
        size: (width, height) in pixels, upright.
        orientation: (2, 2) int, how picture coordinates (x, y) turn into upright ones; identity for most.
        begin: timestamp decoding starts from, None for the beginning of the file.
        places: (M,) how manieth picture each is that decoding from ``begin`` gives.
        luma: samples of every picture, None where the pixel format has no luma plane.
    """

    path: Path
    time_base: Fraction
    first: int
    ticks: np.ndarray
    times: np.ndarray
    size: tuple[int, int]
    orientation: np.ndarray
    begin: int | None
    places: np.ndarray
    luma: Luma | None


def check(timeline: Timeline, start: float, stop: float) -> Shown:
    """Decodes the pictures around [start, stop] seconds on the clip's clock and makes sure every one is whole.

    Raises:
        MediaError: when pictures cannot be decoded, or their size changes on the way.
    """
    pictures = timeline.pictures
    assert pictures is not None
    first, last = (round((Fraction(t) + timeline.zero) / pictures.time_base) for t in (start, stop))
    begin, safe = _entry(pictures.keyframes, first, round(_LEAD_IN / pictures.time_base))
    seen = _look(timeline.path, begin, safe, last if len(pictures.keyframes) else None)
    if begin is not None and not (seen.ticks and seen.ticks[0] <= first):  # the file's index led astray
        begin, safe = None, pictures.start
        seen = _look(timeline.path, begin, safe, last)
    wanted = pictures.times[(pictures.times >= safe) & (pictures.times <= last)]
    ticks = np.sort(np.array(seen.ticks, np.int64))  # pictures come in order; AVI's times do not follow B-frames
    _require_whole(timeline.path, seen, ticks, wanted, _FROZEN / pictures.time_base)
    luma = None
    weights = _WEIGHTS.get(seen.colorspace)
    values = [value for value in seen.luma if value is not None]
    if weights and len(values) == len(ticks):
        luma = Luma(np.stack(values), weights)
    width, height = seen.sizes.pop()
    return Shown(
        path=timeline.path,
        time_base=pictures.time_base,
        first=pictures.start,
        ticks=ticks,
        times=ticks * float(pictures.time_base) - float(timeline.zero),
        size=(height, width) if seen.orientation[0, 0] == 0 else (width, height),
        orientation=seen.orientation,
        begin=begin,
        places=np.array(seen.places),
        luma=luma,
    )


@dataclass
class _Seen:
    """What one pass of decoding gave; ``bad`` holds what went wrong, in words."""

    ticks: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    luma: list[np.ndarray | None] = field(default_factory=list)
    sizes: set[tuple[int, int]] = field(default_factory=set)
    bad: list[str] = field(default_factory=list)
    orientation: np.ndarray = field(default_factory=lambda: np.eye(2, dtype=int))
    colorspace: int = -1


def _look(path: Path, begin: int | None, safe: int, last: int | None) -> _Seen:
    """Decodes from ``begin`` to the first picture after ``last`` and keeps what is shown from ``safe`` on."""
    seen = _Seen()
    for place, (tick, frame) in enumerate(decode(path, begin, safe, seen.bad)):
        if not seen.sizes:
            seen.orientation, seen.colorspace = upright(frame), frame.colorspace
        seen.sizes.add((frame.width, frame.height))
        if tick >= safe:
            seen.ticks.append(tick)
            seen.places.append(place)
            seen.luma.append(_luma(frame))
        if last is not None and tick > last:
            break
    return seen


def _require_whole(path: Path, seen: _Seen, ticks: np.ndarray, wanted: np.ndarray, frozen: Fraction) -> None:
    """Raises MediaError when pictures are damaged, missing for longer than ``frozen`` ticks, or change in size."""
    problem = seen.bad[0] if seen.bad else None
    if not len(ticks):
        problem = problem or "no picture came out"
    elif len(wanted):
        # Decoders skip what refers to pictures that were cut away; a few are harmless, seconds would stand still.
        after = ticks[np.minimum(np.searchsorted(ticks, wanted), len(ticks) - 1)]
        before = ticks[np.clip(np.searchsorted(ticks, wanted, side="right") - 1, 0, None)]
        if np.minimum(np.abs(after - wanted), np.abs(wanted - before)).max() > frozen:
            problem = problem or "the others refer to pictures that are not in the file"
    if problem:
        readable = int(np.isin(wanted, ticks).sum())
        raise MediaError(
            f"{path}: {readable} of {len(wanted)} pictures could be decoded (first problem: {problem}); "
            "fetch or copy the file again"
        )
    if len(seen.sizes) > 1:
        raise MediaError(f"{path}: its picture size changes on the way ({sorted(seen.sizes)}); re-encode it")


def decode(path: Path, begin: int | None, safe: int, bad: list[str]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes pictures in the order they are shown, each with its timestamp in ticks.

    What fails to decode at or after ``safe`` ticks is added to ``bad``.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = _THREADS
        stream.codec_context.options = {"err_detect": "explode"}
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


def _entry(keyframes: np.ndarray, tick: int, lead_in: int) -> tuple[int | None, int]:
    """Where to start decoding for a picture at ``tick``, and from which time on every picture must be whole."""
    earlier = keyframes[keyframes <= tick]
    lead = keyframes[keyframes <= tick - lead_in]
    lead = lead[lead < earlier[-1]] if len(earlier) else lead
    if not len(lead):
        return None, np.iinfo(np.int64).min
    return int(lead[-1]), int(earlier[-1])


def upright(frame: av.VideoFrame) -> np.ndarray:
    """(2, 2) int: the display matrix, in quarter turns and mirrorings; x' = m[0] . (x, y), y' = m[1] . (x, y)."""
    side_data: Any = frame.side_data
    data = side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return np.eye(2, dtype=int)
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4").astype(np.float64)
    matrix = np.rint(np.array([[a, c], [b, d]]) / max(abs(a), abs(b), 1.0)).astype(int)
    quarter_turns = abs(round(float(np.linalg.det(matrix)))) == 1
    return matrix if quarter_turns else np.eye(2, dtype=int)


def turned(picture: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """(H, W, 3) made upright; (W, H, 3) for quarter turns."""
    if orientation[0, 0] == 0:  # x' = +-y: rows become columns
        picture = picture.transpose(1, 0, 2)
    if orientation[0].sum() < 0:
        picture = picture[:, ::-1]
    if orientation[1].sum() < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def sample_places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (32, 1) and columns (1, 32) where luma is sampled."""
    rows = np.linspace(0, height - 1, _GRID).astype(int)
    columns = np.linspace(0, width - 1, _GRID).astype(int)
    return rows[:, None], columns[None, :]


def _luma(frame: av.VideoFrame) -> np.ndarray | None:
    """(1024,) float32 in [0, 255]: luma of one picture at the sample places."""
    name, first = frame.format.name, frame.format.components[0]
    if not name.startswith(("yuv4", "yuvj4", "gray")) or name.endswith("be"):
        return None
    plane = frame.planes[0]
    kind = np.uint8 if first.bits == 8 else np.uint16
    rows = np.frombuffer(memoryview(plane), kind).reshape(frame.height, -1)
    values = rows[sample_places(frame.height, frame.width)].astype(np.float32).ravel() / 2 ** (first.bits - 8)
    full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
    return values if full else np.clip((values - 16) * (255 / 219), 0, 255)
