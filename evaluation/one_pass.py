"""One decoding of each video for all metrics.

Every extractor gives a collector for each side of a clip. The frames of a video go to all collectors whose features are
not in the cache, each in a thread of its own. One more thread decodes ahead, also into the next video. Features of
single frames are kept for the whole video: another length, offset or window, and another metric of the same features,
need no decoding.

Shapes: F frames, N samples, D features.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from evaluation.aligned_clips import AlignedClip, Clips, Side, certified, certify, cut_panel
from evaluation.cache import Arrays, FeatureStore
from evaluation.pairs import Missing
from media import FrameReader, MediaError
from runtime.errors import UserError

BATCH = 16  # frames that are handed over at a time
AHEAD = 8  # batches that are decoded ahead
T = TypeVar("T")
Stores = tuple[FeatureStore, FeatureStore]


class Collector(Protocol):
    """Computes one kind of features from the frames of a video, as they are decoded.

    The collectors of a video run at the same time, each in a thread.

    Attributes:
        key: Everything that the features depend on.
        first: First frame that is used, counted from the start of the video.
        count: Number of frames that are used.
    """

    key: dict[str, object]
    first: int
    count: int

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Adds the next (H, W, 3) uint8 RGB frames, in order; called until ``count`` frames were given."""
        ...

    def arrays(self) -> Arrays:
        """Returns the features of all frames.

        Returns:
            ``features``, (N, D) float32; ``frames``, (N,) int32 frame of each sample from the start of the video; and
            ``seen``, the number of frames that were given.

        Raises:
            ValueError: If the features cannot be used.
        """
        ...


@dataclass
class _Video:
    """A video to decode, with the collectors that wait for it."""

    clip: str
    side: Side
    store: FeatureStore
    collectors: list[Collector]
    first: int
    end: int


def run_alone(collector: Collector, side: Side) -> Arrays:
    """Decodes a side for a single collector.

    Raises:
        MediaError: If the video cannot be read.
        ValueError: If the features cannot be used.
    """
    video = _Video("", side, None, [collector], collector.first, collector.first + collector.count)  # type: ignore[arg-type]
    for batch in _batches(video):
        _give(collector, *batch)
    return collector.arrays()


def decode_once(
    clips: Clips,
    collectors: Callable[[AlignedClip, Side], list[Collector]],
    stores: Stores,
    progress: Callable[[int], object],
) -> list[Missing]:
    """Decodes each video at most once and stores the features of all collectors.

    A video whose features are all cached is only decoded if it was never decoded completely before.

    Args:
        clips: Aligned pairs.
        collectors: Function to the collectors of one side of a clip.
        stores: Caches of the reference and the generated side.
        progress: Called with the number of finished frames.

    Returns:
        The videos that are damaged.
    """
    videos, waiting = [], set()
    for clip in clips:
        for side, store in zip((clip.reference, clip.generated), stores, strict=True):
            wanted = []
            for collector in collectors(clip, side):
                digest = store.digest(collector.key)
                if digest not in waiting and not store.has(collector.key):
                    waiting.add(digest)
                    wanted.append(collector)
            first = min((one.first for one in wanted), default=0)
            end = max((one.first + one.count for one in wanted), default=0)
            if not certified(side, store):
                first, end = 0, side.info.frames
            if end > first:
                videos.append(_Video(clip.name, side, store, wanted, first, end))
            else:
                progress(side.frames)
    missing: list[Missing] = []
    failed: dict[int, str] = {}
    with ThreadPoolExecutor() as threads, closing(_ahead(_all_batches(videos))) as batches:
        for place, frame, pictures in batches:
            video = videos[place]
            if isinstance(pictures, Exception):
                missing.append(Missing(video.clip, video.side.name, None, str(pictures)))
            elif pictures:
                working = [one for one in video.collectors if id(one) not in failed]
                given = [threads.submit(_give, one, frame, pictures) for one in working]
                for collector, one in zip(working, given, strict=True):
                    try:
                        one.result()
                    except (ValueError, UserError) as error:  # reported with the metric's values
                        failed[id(collector)] = str(error)
            else:
                _store(video, failed)
                progress(video.side.frames)
    return missing


def _store(video: _Video, failed: dict[int, str]) -> None:
    """Stores the features of a completely decoded video."""
    if video.first == 0 and video.end >= video.side.info.frames:
        certify(video.side, video.store)
    for collector in video.collectors:
        if id(collector) not in failed:
            try:
                arrays = collector.arrays()
            except ValueError:
                continue
            video.store.fetch(collector.key, lambda arrays=arrays: arrays)  # type: ignore[misc]
    video.collectors.clear()


def _give(collector: Collector, first: int, pictures: Sequence[np.ndarray]) -> None:
    """Gives a collector those of the pictures that it uses."""
    begin, end = max(collector.first - first, 0), collector.first + collector.count - first
    if used := pictures[begin : max(end, 0)]:
        collector.add(used)


def _batches(video: _Video) -> Iterator[tuple[int, list[np.ndarray]]]:
    """Decodes a video; yields the first frame's number and (H, W, 3) frames."""
    side, whole = video.side, video.first == 0 and video.end >= video.side.info.frames
    end = None if whole else video.end / side.fps
    reader = FrameReader(side.path, start=video.first / side.fps, end=end, fps=side.fps)
    batch: list[np.ndarray] = []
    first = video.first
    for frame in reader:
        batch.append(cut_panel(frame, side.panel))
        if len(batch) == BATCH:
            yield first, batch
            first, batch = first + len(batch), []
    if batch:
        yield first, batch


def _all_batches(videos: Sequence[_Video]) -> Iterator[tuple[int, int, list[np.ndarray] | Exception]]:
    """Decodes all videos; an empty list ends a video, an exception a damaged one."""
    for place, video in enumerate(videos):
        try:
            for first, batch in _batches(video):
                yield place, first, batch
        except (MediaError, OSError) as error:
            yield place, 0, error
        else:
            yield place, 0, []


def _ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """Yields the items of an iterator that a thread runs ahead."""
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(AHEAD)
    ended = threading.Event()

    def put(item: tuple[T | None, BaseException | None]) -> bool:
        while not ended.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put((item, None)):
                    return
        except BaseException as error:  # raised again in the other thread
            put((None, error))
        else:
            put((None, StopIteration()))

    thread = threading.Thread(target=work, name="decoding ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        ended.set()
        thread.join()
