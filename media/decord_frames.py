"""Frames through decord, which is fast, but hangs on some broken files and returns wrong pictures for others.

It runs in a daemon thread that hands frames over through a queue, and every wait has a limit. A thread rather than a
child process: frames are handed over without a copy, nothing has to start, and it works inside worker processes that
may have no children. The price is that a thread stuck in decord cannot be ended: it stays, asleep, with one decoder's
memory. So once decord has hung, the process reads with PyAV alone.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from queue import Empty, Queue
from typing import ClassVar

import numpy as np

from media.frame_scan import Shown, sample_places

_AHEAD = 4  # frames decoded ahead
_LETTING_GO = 5.0  # seconds to wait for the thread when a reader is left early
_SAME_TIME = 2e-3  # seconds; decord keeps times as float32
_LUMA_ERROR = 2.5  # largest mean error of luma where no colour is clipped, of 255
_CLIPPED_LUMA_ERROR = 8.0  # ... anywhere

_hung = threading.Event()


class DecordError(Exception):
    """Why decord cannot be used for a file."""


def read(shown: Shown, picks: np.ndarray, timeout: float) -> Iterator[np.ndarray]:
    """Yields (H, W, 3) uint8 RGB for each of ``picks``, ascending indices into ``shown.ticks``.

    Raises:
        Unusable: when decord fails, hangs, or gives other pictures than it should; frames given so far are right.
    """
    if _hung.is_set():
        raise DecordError("decord hung on an earlier file of this process")
    if shown.luma is None:
        raise DecordError("the pixel format has no luma plane to check decord's pictures by")
    if not np.array_equal(shown.orientation, np.eye(2)):
        raise DecordError("decord does not turn pictures upright")
    unique, repeats = np.unique(picks, return_counts=True)
    producer = _Producer(shown, unique)
    try:
        for pick, count in zip(unique, repeats, strict=True):
            item = producer.next(timeout)
            _recognise(item, shown, int(pick))
            for _ in range(count - 1):  # copies first: a frame belongs to whoever got it
                yield item.copy()
            yield item
    finally:
        producer.end()


class _Producer:
    """A thread that decodes the frames of the ascending, unique ``picks`` into a short queue."""

    live: ClassVar[set[_Producer]] = set()

    def __init__(self, shown: Shown, picks: np.ndarray) -> None:
        self.queue: Queue[np.ndarray | Exception] = Queue(_AHEAD)
        self.stop = threading.Event()
        self.patience = _LETTING_GO
        self.thread = threading.Thread(target=self._run, args=(shown, picks), name="decord", daemon=True)
        self.live.add(self)
        self.thread.start()

    def next(self, timeout: float) -> np.ndarray:
        """The next frame; raises Unusable when decord failed, or gave nothing for ``timeout`` seconds."""
        try:
            item = self.queue.get(timeout=timeout)
        except Empty:
            _hung.set()
            self.patience = 0.0
            raise DecordError(f"decord gave nothing for {timeout:g} s") from None
        if isinstance(item, DecordError):
            raise item
        if isinstance(item, Exception):
            raise DecordError(f"decord failed: {' '.join(str(item).split())[-160:]}") from item
        return item

    def end(self) -> None:
        """Stops the thread and waits until decord has let go of the file, unless it hangs."""
        self.stop.set()
        while not self.queue.empty():  # a thread that waits for room sees the stop
            self.queue.get_nowait()
        self.thread.join(self.patience)
        self.live.discard(self)

    def _run(self, shown: Shown, picks: np.ndarray) -> None:
        try:
            for frame in decoded(shown, picks):
                self.queue.put(frame)
                if self.stop.is_set():
                    return
        except Exception as error:  # decord raises many types; the reader decides what to do
            self.queue.put(error)


@atexit.register
def _end_all() -> None:
    """A decoder that still runs while Python shuts down would abort the process from C++."""
    for producer in list(_Producer.live):
        producer.end()


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
        raise DecordError("decord sees other frame times than PyAV")
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
        raise DecordError(f"decord gave a picture of shape {picture.shape}, expected {(height, width, 3)}")
    assert shown.luma is not None
    red, blue = shown.luma.weights
    colours = picture[sample_places(height, width)].reshape(-1, 3).astype(np.float32)
    error = np.abs(colours @ np.array([red, 1 - red - blue, blue], np.float32) - shown.luma.values[index])
    inside = ((colours > 0) & (colours < 255)).all(1)  # elsewhere RGB cannot say what luma was
    if error.mean() > _CLIPPED_LUMA_ERROR or (inside.any() and error[inside].mean() > _LUMA_ERROR):
        raise DecordError(f"decord gave another picture at {shown.times[index]:.2f} s than PyAV")
