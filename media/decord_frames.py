"""Frames through decord, which is fast, but hangs on some broken files and returns wrong pictures for others.

It runs in a daemon thread that hands frames over through a queue, and every wait has a limit. A thread rather than a
child process: frames are handed over without a copy, nothing has to start, and it works inside worker processes that
may have no children. The price is that a thread stuck in decord cannot be ended: it stays, asleep, with one decoder's
memory. So once decord has hung, the process reads with PyAV alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from queue import Empty, Queue

import numpy as np

from media.pictures import Shown, sample_places

_AHEAD = 4  # frames decoded ahead
_SAME_TIME = 2e-3  # seconds; decord keeps times as float32
_LUMA_ERROR = 2.5  # largest mean error of luma where no colour is clipped, of 255
_CLIPPED_LUMA_ERROR = 8.0  # ... anywhere

_hung = threading.Event()


class Unusable(Exception):
    """Why decord cannot be used for a file."""


def read(shown: Shown, picks: np.ndarray, timeout: float) -> Iterator[np.ndarray]:
    """Yields (H, W, 3) uint8 RGB for each of ``picks``, ascending indices into ``shown.ticks``.

    Raises:
        Unusable: when decord fails, hangs, or gives other pictures than it should; frames given so far are right.
    """
    if _hung.is_set():
        raise Unusable("decord hung on an earlier file of this process")
    if shown.luma is None:
        raise Unusable("the pixel format has no luma plane to check decord's pictures by")
    if not np.array_equal(shown.orientation, np.eye(2)):
        raise Unusable("decord does not turn pictures upright")
    unique, repeats = np.unique(picks, return_counts=True)
    queue: Queue[np.ndarray | Exception] = Queue(_AHEAD)
    stop = threading.Event()
    threading.Thread(target=_produce, args=(shown, unique, queue, stop), name="decord", daemon=True).start()
    try:
        for pick, count in zip(unique, repeats, strict=True):
            try:
                item = queue.get(timeout=timeout)
            except Empty:
                _hung.set()
                raise Unusable(f"decord gave nothing for {timeout:g} s") from None
            if isinstance(item, Exception):
                raise Unusable(f"decord failed: {' '.join(str(item).split())[-160:]}") from item
            _recognise(item, shown, int(pick))
            yield item
            for _ in range(count - 1):
                yield item.copy()
    finally:
        stop.set()
        while not queue.empty():  # a producer that waits for room sees the stop
            queue.get_nowait()


def _produce(shown: Shown, picks: np.ndarray, queue: Queue[np.ndarray | Exception], stop: threading.Event) -> None:
    """Puts the frame of each of the ascending, unique ``picks`` into the queue; runs in the thread."""
    try:
        for frame in decoded(shown, picks):
            queue.put(frame)
            if stop.is_set():
                return
    except Exception as error:  # decord raises many types; the reader decides what to do
        queue.put(error)


def decoded(shown: Shown, picks: np.ndarray) -> Iterator[np.ndarray]:
    """Pictures from decord, (H, W, 3) uint8 RGB, for each of the ascending, unique ``picks`` into ``shown.ticks``.

    Raises:
        Unusable: when decord sees other times than PyAV.
    """
    import decord  # only here: a missing or broken installation is one more reason to read with PyAV

    decord.logging.set_level(decord.logging.QUIET)
    reader = decord.VideoReader(str(shown.path), ctx=decord.cpu(0), num_threads=2)
    times = np.asarray(reader.get_frame_timestamp(list(range(len(reader)))), np.float64)[:, 0]
    wanted = (shown.ticks[picks] - shown.first) * float(shown.time_base)
    indices = _closest(times - times[0], wanted)
    if np.abs(times[indices] - times[0] - wanted).max() > _SAME_TIME or len(np.unique(indices)) < len(indices):
        raise Unusable("decord sees other frame times than PyAV")
    place = 0
    if shown.begin is not None:
        reader.seek_accurate(int(indices[0]))
        place = int(indices[0])
    for index in indices.tolist():
        if index > place:
            reader.skip_frames(index - place)
        yield reader.next().asnumpy()
        place = index + 1


def _closest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index of the closest of the ascending ``times`` to each of ``wanted``."""
    if len(times) == 1:
        return np.zeros(len(wanted), int)
    right = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.where(wanted - times[right - 1] <= times[right] - wanted, right - 1, right)


def _recognise(picture: np.ndarray, shown: Shown, index: int) -> None:
    """Makes sure a picture is the one PyAV decoded.

    Raises:
        Unusable: when it has another shape, or another luma at the sample places.
    """
    width, height = shown.size
    if picture.shape != (height, width, 3):
        raise Unusable(f"decord gave a picture of shape {picture.shape}, expected {(height, width, 3)}")
    assert shown.luma is not None
    red, blue = shown.luma.weights
    colours = picture[sample_places(height, width)].reshape(-1, 3).astype(np.float32)
    error = np.abs(colours @ np.array([red, 1 - red - blue, blue], np.float32) - shown.luma.values[index])
    inside = ((colours > 0) & (colours < 255)).all(1)  # elsewhere RGB cannot say what luma was
    if error.mean() > _CLIPPED_LUMA_ERROR or (inside.any() and error[inside].mean() > _LUMA_ERROR):
        raise Unusable(f"decord gave another picture at {shown.times[index]:.2f} s than PyAV")
