"""The decord reader: PyAV checks the pictures and their times, decord decodes those that are asked for.

decord conceals damage, returns wrong pictures for broken files and shows pictures as they are stored, so it never
reads a file that PyAV has not checked. It has distributions for Linux and Windows on x86-64 only.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from media.archives import member_of, open_file
from media.display import stored_otherwise
from media.pyav_frames import checked, longest_interval, nearest
from media.source import MediaError
from media.timeline import Timeline

_SAME_TIME = 2e-3  # seconds; decord keeps times as float32


def read(timeline: Timeline, grid: np.ndarray, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """The picture to show at each time of the grid; arguments and result as of ``pyav_frames.read``.

    Raises:
        MediaError: as of ``pyav_frames.read``; when the pictures must be converted to be shown (``stored_otherwise``);
            when decord is not installed or finds other times than PyAV.
    """
    try:
        import decord
    except ImportError as error:
        raise MediaError(f"{timeline.path}: the decord reader needs decord ({error}); use the reader pyav") from error
    assert timeline.pictures is not None
    times: list[float] = []
    for time, frame in checked(timeline, float(grid[0]), float(grid[-1])):
        if not times and (otherwise := stored_otherwise(frame, timeline.pictures.aspect)):
            raise MediaError(f"{timeline.path}: is stored {otherwise}, which decord ignores; use the reader pyav")
        times.append(time)
    picks = list(nearest(((time, time) for time in times), grid, longest_interval(timeline, fps)))
    decord.logging.set_level(decord.logging.QUIET)
    with open_file(timeline.path) as file:
        reader = decord.VideoReader(
            str(timeline.path) if member_of(timeline.path) is None else file, ctx=decord.cpu(0), num_threads=2
        )
    found = np.asarray(reader.get_frame_timestamp(list(range(len(reader)))), np.float64)[:, 0]
    found += float(timeline.pictures.start * timeline.pictures.time_base - timeline.zero) - found[0]
    for time, _ in picks:
        index = int(np.abs(found - time).argmin())
        if abs(found[index] - time) > _SAME_TIME:
            raise MediaError(f"{timeline.path}: decord finds no picture at {time:.3f} s; use the reader pyav")
        yield time, reader[index].asnumpy()
