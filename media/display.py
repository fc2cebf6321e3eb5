"""Decoded pictures as they are meant to be seen: whole instead of two fields, with square pixels, BT.709 and upright.

Shapes: H x W pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import VideoReformatter

NEARLY_SQUARE = Fraction(1, 100)  # pixels whose sides differ less are square; containers round the ratio
WIDEST = 4  # largest ratio of a pixel's sides; of real formats, 2.2 is the largest
SD_SIZE = (1280, 576)  # pixels; pictures as wide, or higher, have BT.709 where the file does not say
# Numbers of ITU-T H.273.
BT709, UNSPECIFIED, BT2020 = 1, 2, 9
PQ, HLG = 16, 18


class Display:
    """Converts the pictures of one reading; keeps tables between them.

    High dynamic range (PQ and HLG) is mapped to the standard range by FFmpeg's swscale, with 203 cd/m^2 as white.

    Args:
        aspect: Width of a stored pixel over its height.
    """

    def __init__(self, aspect: Fraction) -> None:
        self._aspect = aspect
        self._reformatter = VideoReformatter()
        self._orientation: np.ndarray | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB of a picture, upright."""
        if self._orientation is None:
            self._orientation = upright(frame)
        settings: dict[str, Any] = {}
        size = shown_size(frame.width, frame.height, self._aspect)
        if size != (frame.width, frame.height):
            settings |= {"width": size[0], "height": size[1], "interpolation": "BICUBIC"}
        if _is_hdr(frame):
            if frame.color_primaries == UNSPECIFIED:
                frame.color_primaries = BT2020
            settings |= {"dst_colorspace": BT709, "dst_color_trc": BT709, "dst_color_primaries": BT709}
        if _lacks_matrix(frame):
            frame.colorspace = BT2020 if _is_hdr(frame) else BT709
        if settings:
            picture = self._reformatter.reformat(frame, format="rgb24", **settings).to_ndarray()
        else:
            picture = frame.to_ndarray(format="rgb24")
        if frame.format.name == "rgb24":  # not converted: the array may be the decoder's own memory
            picture = picture.copy()
        return _turned(picture, self._orientation)


def shown_size(width: int, height: int, aspect: Fraction) -> tuple[int, int]:
    """Size of a stored picture with square pixels; one side grows, none shrinks.

    Args:
        width: Stored width, pixels.
        height: Stored height, pixels.
        aspect: Width of a stored pixel over its height.
    """
    if abs(aspect - 1) < NEARLY_SQUARE:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def deinterlaced(pictures: Iterable[tuple[float, av.VideoFrame]]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Makes a whole picture of each interlaced one with FFmpeg's bwdif; passes others on as they are."""
    graph: Graph | None = None
    times: deque[float] = deque()
    for time, frame in pictures:
        if graph is None:
            if not frame.interlaced_frame:
                yield time, frame
                continue
            graph = _joining_fields(frame)
        times.append(time)
        graph.vpush(frame)
        for whole in _pulled(graph):
            yield times.popleft(), whole
    if graph is not None:
        graph.vpush(None)
        for whole in _pulled(graph):
            yield times.popleft(), whole


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


def stored_otherwise(frame: av.VideoFrame, aspect: Fraction) -> str | None:
    """How a picture is stored if it must be converted to be shown, in words; None if it needs nothing."""
    if not np.array_equal(upright(frame), np.eye(2)):
        return "turned"
    if shown_size(frame.width, frame.height, aspect) != (frame.width, frame.height):
        return "with pixels that are not square"
    if frame.interlaced_frame:
        return "as two fields"
    if _is_hdr(frame):
        return "in high dynamic range"
    return "without naming its colours" if _lacks_matrix(frame) else None


def _is_hdr(frame: av.VideoFrame) -> bool:
    return frame.color_trc in (PQ, HLG)


def _lacks_matrix(frame: av.VideoFrame) -> bool:
    """Whether swscale would take a picture for BT.601 that has another matrix."""
    large = frame.width >= SD_SIZE[0] or frame.height > SD_SIZE[1]
    return frame.colorspace == UNSPECIFIED and not frame.format.is_rgb and (large or _is_hdr(frame))


def _turned(picture: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Rotates or mirrors a picture (H, W, 3) so that it is upright; returns (W, H, 3) for quarter turns."""
    if orientation[0, 0] == 0:  # x' = +-y: rows become columns
        picture = picture.transpose(1, 0, 2)
    if orientation[0].sum() < 0:
        picture = picture[:, ::-1]
    if orientation[1].sum() < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


def _joining_fields(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000)
    )
    joining = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    source.link_to(joining)
    joining.link_to(sink)
    graph.configure()
    return graph


def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
