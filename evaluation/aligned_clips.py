"""Alignment of the two videos of a pair: frame rate, panel, offset and length.

Frames are selected by timestamp, not by index. Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.cache import Arrays, FeatureStore
from evaluation.clip_records import FPS as RECORD_FPS
from evaluation.clip_records import ClipRecord, record_of
from evaluation.pairs import EvaluationError, Missing, Pair
from media import FrameReader, MediaError, look_at
from media.limits import RECORDINGS
from runtime.files import sha256_of

Panel = tuple[int, int, int, int]


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video.

    Attributes:
        frames: Number of frames at the evaluation's frame rate.
        width: Width, pixels.
        height: Height, pixels.
        fps: Frame rate of the file.
        has_sound: Whether there is a sound track.
    """

    frames: int
    width: int
    height: int
    fps: float
    has_sound: bool


@dataclass(frozen=True)
class Side:
    """The compared part of one video of a pair.

    Attributes:
        path: Video file.
        sha256: Hash of its content.
        name: ``generated`` or ``reference``.
        info: Properties of the video.
        start: First compared frame, counted at ``fps``.
        frames: Number of compared frames.
        fps: Frame rate of the comparison.
        panel: x, y, width and height of the compared part of the picture, or None for the whole picture.
        available: First frame and number of frames from which pieces without a counterpart are taken: the whole video,
            or a window of it. Unlike ``frames``, the number does not depend on the other side.
        encoding: How ``benchmark.run_system`` encoded the video again; None for any other video.
    """

    path: Path
    sha256: str
    name: str
    info: VideoInfo
    start: int
    frames: int
    fps: float
    panel: Panel | None
    available: tuple[int, int]
    encoding: str | None = None

    @property
    def key(self) -> dict[str, object]:
        """Cache key: everything that the frames depend on."""
        return {
            "content": self.sha256,
            "start": self.start,
            "frames": self.frames,
            "fps": self.fps,
            "panel": self.panel,
        }

    @property
    def video(self) -> dict[str, object]:
        """Cache key of the whole video: everything that its frames depend on."""
        return {"content": self.sha256, "fps": self.fps, "panel": self.panel}

    def part(self, first: int, frames: int) -> Side:
        """Returns ``frames`` compared frames from ``first`` on, relative to ``start``, as a side of its own."""
        start = self.start + first
        return replace(self, start=start, frames=frames, available=(start, frames))

    def reader(self, first: int = 0, frames: int | None = None) -> ClipFrames:
        """Returns the frames from ``first`` on.

        Args:
            first: First frame, relative to ``start``.
            frames: Number of frames; None for all remaining ones.

        Raises:
            MediaError: If the file is damaged.
        """
        return ClipFrames(self, first, self.frames - first if frames is None else frames)


class ClipFrames:
    """Iterable of the (H, W, 3) uint8 RGB frames of one side; each iteration decodes the video again.

    Args:
        side: The side.
        first: First frame, relative to the side's start.
        frames: Number of frames.

    Raises:
        MediaError: If the file is damaged.
    """

    def __init__(self, side: Side, first: int, frames: int) -> None:
        start = (side.start + first) / side.fps
        self._reader = FrameReader(side.path, start=start, end=start + frames / side.fps, fps=side.fps)
        self._panel = side.panel
        self._frames = frames

    def __len__(self) -> int:
        """Returns the number of frames."""
        return self._frames

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, frame in enumerate(self._reader):
            if index < self._frames:
                yield cut_panel(frame, self._panel)


@dataclass(frozen=True)
class AlignedClip:
    """An aligned pair.

    Attributes:
        name: Name of the pair.
        generated: The generated side.
        reference: The real side.
        notes: Changes that were made for the comparison (trimming, resampling, ...).
    """

    name: str
    generated: Side
    reference: Side
    notes: tuple[str, ...]


Clips = Sequence[AlignedClip]


def cut_panel(frame: np.ndarray, panel: Panel | None) -> np.ndarray:
    """Returns the compared part of a frame."""
    if panel is None:
        return frame
    x, y, width, height = panel
    return frame[y : y + height, x : x + width]


def video_info(path: Path, fps: float) -> VideoInfo:
    """Reads size and length of a video, without decoding it.

    Raises:
        MediaError: If the file is damaged or is not a video.
    """
    info = look_at(path, limits=RECORDINGS)
    reader = FrameReader(path, fps=fps)
    return VideoInfo(len(reader), info.width, info.height, info.fps, info.has_sound)


@dataclass(frozen=True)
class Alignment:
    """Settings of the alignment.

    Attributes:
        fps: Frame rate of the comparison.
        panel: x, y, width and height of the result in generated frames, or None for the whole picture.
        offset: Generated frame k corresponds to reference frame k + offset. None for the offset that
            ``benchmark.run_system`` recorded, 0 without a record.
        max_gap: Maximum difference of the lengths, seconds.
    """

    fps: float
    panel: Panel | None
    offset: int | None
    max_gap: float

    def open(self, pair: Pair, store: FeatureStore) -> AlignedClip | Missing:
        """Aligns a pair.

        Args:
            pair: The two files.
            store: Cache with the properties of videos that were decoded completely.

        Returns:
            The aligned pair, or the reason why it cannot be compared.

        Raises:
            EvaluationError: If ``offset`` is not that of the record.
        """
        fps, panel = self.fps, self.panel
        side = "generated"
        try:
            made, made_digest = self._look(pair.generated, store)
            side = "reference"
            real, real_digest = self._look(pair.reference, store)
        except (MediaError, OSError) as error:
            return Missing(pair.clip, side, None, str(error))
        records = record_of(pair.generated, made_digest), record_of(pair.reference, real_digest)
        offset = self._offset(pair, *records)
        if panel and (panel[0] + panel[2] > made.width or panel[1] + panel[3] > made.height):
            reason = f"crop={list(panel)} exceeds the frames of {made.width} x {made.height} pixels"
            return Missing(pair.clip, "generated", None, reason)
        starts = max(0, -offset), max(0, offset)
        lengths = made.frames - starts[0], real.frames - starts[1]
        frames = min(lengths)
        gap = abs(lengths[0] - lengths[1]) / fps
        if gap > self.max_gap or frames < 1:
            reason = (
                f"the length differs by {gap:.2f} s from the reference's ({lengths[0]} and {lengths[1]} frames at "
                f"{fps:g} fps), more than max_gap={self.max_gap:g}"
            )
            return Missing(pair.clip, "generated", None, reason)
        size = panel[2:] if panel else (made.width, made.height)
        encodings = [record.encoding if record else None for record in records]
        return AlignedClip(
            pair.clip,
            Side(
                pair.generated,
                made_digest,
                "generated",
                made,
                starts[0],
                frames,
                fps,
                panel,
                (0, made.frames),
                encodings[0],
            ),
            Side(
                pair.reference,
                real_digest,
                "reference",
                real,
                starts[1],
                frames,
                fps,
                None,
                (0, real.frames),
                encodings[1],
            ),
            (*_notes(made, real, lengths, size, fps), *_encoded(encodings)),
        )

    def _offset(self, pair: Pair, made: ClipRecord | None, real: ClipRecord | None) -> int:
        if made is None:
            return self.offset or 0
        recorded = round((made.offset - (real.offset if real else 0)) * self.fps / RECORD_FPS)
        if self.offset not in (None, recorded):
            raise EvaluationError(
                f"offset={self.offset}: the record of {pair.generated} says {recorded}; leave offset out, and it is "
                "read from the records"
            )
        return recorded

    def _look(self, path: Path, store: FeatureStore) -> tuple[VideoInfo, str]:
        digest = sha256_of(path)
        kept = store.stored(store.digest(_look_key(digest, self.fps)))
        if kept is None:
            return video_info(path, self.fps), digest
        return VideoInfo(**{name: value.item() for name, value in kept.items()}), digest


def certified(side: Side, store: FeatureStore) -> bool:
    """Whether the video was decoded completely before, without damage."""
    return store.has(_look_key(side.sha256, side.fps))


def certify(side: Side, store: FeatureStore) -> None:
    """Notes that the video was decoded completely, without damage."""
    store.fetch(_look_key(side.sha256, side.fps), lambda: _as_arrays(side.info))


def _look_key(digest: str, fps: float) -> dict[str, object]:
    return {"what": "look", "content": digest, "fps": fps}


def _notes(
    made: VideoInfo, real: VideoInfo, lengths: tuple[int, int], size: tuple[int, int], fps: float
) -> Iterator[str]:
    if lengths[0] != lengths[1]:
        longer = "generated" if lengths[0] > lengths[1] else "reference"
        yield f"{longer} trimmed from {max(lengths)} to {min(lengths)} frames"
    if size != (real.width, real.height):
        yield f"generated {size[0]} x {size[1]}, reference {real.width} x {real.height} pixels"
    for name, info in (("generated", made), ("reference", real)):
        if abs(info.fps - fps) > 0.01:
            yield f"{name} resampled by time from {info.fps:.3f} to {fps:g} fps"


def _encoded(encodings: Sequence[str | None]) -> Iterator[str]:
    if any(encodings):
        texts = [f"{name} {how}" for name, how in zip(("generated", "reference"), encodings, strict=True) if how]
        yield f"encoded again by benchmark.run_system: {', '.join(texts)}"


def _as_arrays(info: VideoInfo) -> Arrays:
    return {name: np.asarray(value) for name, value in vars(info).items()}
