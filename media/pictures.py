"""Which pictures of a span are shown and whether they are sound: one pass of PyAV that decodes without converting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from media.source import MediaError, opened, video_stream
from media.timeline import Timeline

_GRID = 32  # luma is sampled at 32 x 32 places
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
        MediaError: when a picture cannot be decoded, or the picture size changes on the way.
    """
    pictures = timeline.pictures
    assert pictures is not None
    first_tick, last_tick = (round((Fraction(t) + timeline.zero) / pictures.time_base) for t in (start, stop))
    begin, safe = _entry(pictures.keyframes, first_tick, round(_LEAD_IN / pictures.time_base))
    seen: list[int] = []
    places: list[int] = []
    values: list[np.ndarray | None] = []
    bad: list[str] = []
    sizes: set[tuple[int, int]] = set()
    kind: av.VideoFrame | None = None
    for place, frame in enumerate(decode(timeline.path, begin, safe, bad)):
        kind = kind or frame
        sizes.add((frame.width, frame.height))
        if frame.pts >= safe:
            seen.append(frame.pts)
            places.append(place)
            values.append(_luma(frame))
        if frame.pts > last_tick:
            break
    if bad or not seen or kind is None:
        wanted = pictures.times[(pictures.times >= safe) & (pictures.times <= last_tick)]
        readable = min(len(wanted), int(np.isin(seen, wanted).sum()))
        raise MediaError(
            f"{timeline.path}: {readable} of {len(wanted)} pictures could be decoded "
            f"(first problem: {bad[0] if bad else 'no picture came out'}); fetch or copy the file again"
        )
    if len(sizes) > 1:
        raise MediaError(f"{timeline.path}: its picture size changes on the way ({sorted(sizes)}); re-encode it")
    ticks = np.sort(np.array(seen, np.int64))  # decoders put pictures in order; AVI's times do not follow B-frames
    orientation = upright(kind)
    width, height = sizes.pop()
    weights = _WEIGHTS.get(kind.colorspace)
    luma = None
    if weights and all(value is not None for value in values):
        luma = Luma(np.stack(values), weights)  # type: ignore[arg-type]
    return Shown(
        path=timeline.path,
        time_base=pictures.time_base,
        first=pictures.start,
        ticks=ticks,
        times=ticks * float(pictures.time_base) - float(timeline.zero),
        size=(height, width) if orientation[0, 0] == 0 else (width, height),
        orientation=orientation,
        begin=begin,
        places=np.array(places),
        luma=luma,
    )


def decode(path: Path, begin: int | None, safe: int, bad: list[str]) -> Iterator[av.VideoFrame]:
    """Decodes pictures in the order they are shown; what fails to decode after ``safe`` is added to ``bad``."""
    with opened(path) as container:
        stream = video_stream(container, path)
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = 2
        stream.codec_context.options = {"err_detect": "explode"}
        if begin is not None:
            container.seek(begin, stream=stream)
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if packet.pts is None or packet.pts >= safe:
                    at = "" if packet.pts is None else f" at {float(packet.pts * stream.time_base):.2f} s"
                    bad.append(f"{error.strerror or error}{at}")
                continue
            for frame in frames:
                if frame.pts is None:
                    bad.append("a picture without a time")
                elif frame.is_corrupt and frame.pts >= safe:
                    bad.append(f"damaged picture at {float(frame.pts * stream.time_base):.2f} s")
                else:
                    yield frame


def _entry(keyframes: np.ndarray, tick: int, lead_in: int) -> tuple[int | None, int]:
    """Where to start decoding for a picture at ``tick``, and from which time on every picture must be whole."""
    earlier = keyframes[keyframes <= tick]
    lead = keyframes[keyframes <= tick - lead_in]
    lead = lead[lead < earlier[-1]] if len(earlier) else lead
    if not len(lead):
        return None, np.iinfo(np.int64).min
    return int(lead[-1]), int(earlier[-1])


def upright(frame: av.VideoFrame) -> np.ndarray:
    """(2, 2) int: the display matrix, rounded to quarter turns and mirrorings; x' = m[0] . (x, y), y' = m[1] . (x, y)."""
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = np.frombuffer(bytes(data), "<i4").astype(np.float64)
            norm = max(abs(a), abs(b), 1.0)
            matrix = np.rint(np.array([[a, c], [b, d]]) / norm).astype(int)
            if abs(round(np.linalg.det(matrix))) == 1:
                return matrix
    return np.eye(2, dtype=int)


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
    rows = np.frombuffer(plane, kind).reshape(frame.height, -1)
    values = rows[sample_places(frame.height, frame.width)].astype(np.float32).ravel() / 2 ** (first.bits - 8)
    full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
    return values if full else np.clip((values - 16) * (255 / 219), 0, 255)
