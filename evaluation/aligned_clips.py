"""The two videos of a pair brought to the same times: frame rate, panel, offset, length.

Frames are chosen by their timestamps, never by counting. Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.cache import Arrays, FeatureStore
from evaluation.pairs import Missing, Pair
from media import FrameReader, MediaError, probe
from runtime.files import sha256_of

Panel = tuple[int, int, int, int]


@dataclass(frozen=True)
class Look:
    """What a video holds.

    Attributes:
        frames: at the evaluation's frame rate.
        width: pixels.
        height: pixels.
        fps: the file's own frame rate.
        has_sound: whether there is a sound track.
    """

    frames: int
    width: int
    height: int
    fps: float
    has_sound: bool


@dataclass(frozen=True)
class Side:
    """One video of a pair, as the metrics see it.

    Attributes:
        path: the file.
        sha256: of its content.
        name: generated or reference.
        look: what it holds.
        start: first frame compared, counted at ``fps``.
        frames: how many are compared.
        fps: frames per second.
        panel: x, y, width, height of the part that is compared, or None for the whole picture.
    """

    path: Path
    sha256: str
    name: str
    look: Look
    start: int
    frames: int
    fps: float
    panel: Panel | None

    @property
    def key(self) -> dict[str, object]:
        """Everything its frames depend on."""
        return {
            "content": self.sha256,
            "start": self.start,
            "frames": self.frames,
            "fps": self.fps,
            "panel": self.panel,
        }

    def reader(self, first: int = 0, frames: int | None = None) -> ClipFrames:
        """The frames from ``first`` on, all of them or that many.

        Raises:
            MediaError: if the file is damaged.
        """
        return ClipFrames(self, first, self.frames - first if frames is None else frames)


class ClipFrames:
    """(H, W, 3) uint8 RGB frames of one side; iterate again to decode again.

    Raises:
        MediaError: if the file is damaged.
    """

    def __init__(self, side: Side, first: int, frames: int) -> None:
        start = (side.start + first) / side.fps
        self._reader = FrameReader(side.path, start=start, end=start + frames / side.fps, fps=side.fps)
        self._panel = side.panel
        self._frames = frames

    def __len__(self) -> int:
        """How many frames there are."""
        return self._frames

    def __iter__(self) -> Iterator[np.ndarray]:
        for index, frame in enumerate(self._reader):
            if index < self._frames:
                yield cut_panel(frame, self._panel)


@dataclass(frozen=True)
class AlignedClip:
    """A pair that can be compared.

    Attributes:
        name: the pair's name.
        generated: the generated side.
        reference: the real side.
        notes: what was done to make them comparable.
    """

    name: str
    generated: Side
    reference: Side
    notes: tuple[str, ...]


Clips = Sequence[AlignedClip]


def cut_panel(frame: np.ndarray, panel: Panel | None) -> np.ndarray:
    """The part of a frame that is compared."""
    if panel is None:
        return frame
    x, y, width, height = panel
    return frame[y : y + height, x : x + width]


def look_at(path: Path, fps: float) -> Look:
    """Reads a video's size and length, and decodes it once to see that it is whole.

    Raises:
        MediaError: if it is damaged or no video.
    """
    info = probe(path)
    reader = FrameReader(path, fps=fps)
    reader.check()
    return Look(len(reader), info.width, info.height, info.fps, info.has_sound)


@dataclass(frozen=True)
class Alignment:
    """How the two videos of a pair are brought to the same times.

    Attributes:
        fps: frames per second of the comparison.
        panel: part of the generated frames that holds the result.
        offset: generated frame k belongs to reference frame k + offset.
        max_gap: largest difference of the two lengths, seconds.
    """

    fps: float
    panel: Panel | None
    offset: int
    max_gap: float

    def open(self, pair: Pair, store: FeatureStore) -> AlignedClip | Missing:
        """Looks at both videos of a pair and finds the span they share; or says why there is none.

        Args:
            pair: the two files.
            store: keeps what the reference holds, so that it is decoded once and for all.
        """
        fps, panel, offset = self.fps, self.panel, self.offset
        side = "generated"
        try:
            made = look_at(pair.generated, fps)
            side = "reference"
            digests = sha256_of(pair.generated), sha256_of(pair.reference)
            kept = store.fetch(
                {"what": "look", "content": digests[1], "fps": fps}, lambda: _as_arrays(look_at(pair.reference, fps))
            )
            real = Look(**{name: value.item() for name, value in kept.items()})
        except (MediaError, OSError) as error:
            return Missing(pair.clip, side, None, str(error))
        if panel and (panel[0] + panel[2] > made.width or panel[1] + panel[3] > made.height):
            reason = f"crop={list(panel)} reaches beyond its frames of {made.width} x {made.height}"
            return Missing(pair.clip, "generated", None, reason)
        starts = max(0, -offset), max(0, offset)
        lengths = made.frames - starts[0], real.frames - starts[1]
        frames = min(lengths)
        gap = abs(lengths[0] - lengths[1]) / fps
        if gap > self.max_gap or frames < 1:
            reason = (
                f"its length differs by {gap:.2f} s from the reference's ({lengths[0]} and {lengths[1]} frames at "
                f"{fps:g} fps), more than max_gap={self.max_gap:g}"
            )
            return Missing(pair.clip, "generated", None, reason)
        size = panel[2:] if panel else (made.width, made.height)
        return AlignedClip(
            pair.clip,
            Side(pair.generated, digests[0], "generated", made, starts[0], frames, fps, panel),
            Side(pair.reference, digests[1], "reference", real, starts[1], frames, fps, None),
            tuple(_notes(made, real, lengths, size, fps)),
        )


def _notes(made: Look, real: Look, lengths: tuple[int, int], size: tuple[int, int], fps: float) -> Iterator[str]:
    if lengths[0] != lengths[1]:
        longer = "generated" if lengths[0] > lengths[1] else "reference"
        yield f"{longer} trimmed from {max(lengths)} to {min(lengths)} frames"
    if size != (real.width, real.height):
        yield f"generated {size[0]} x {size[1]}, reference {real.width} x {real.height} pixels"
    for name, look in (("generated", made), ("reference", real)):
        if abs(look.fps - fps) > 0.01:
            yield f"{name} resampled by time from {look.fps:.3f} to {fps:g} fps"


def _as_arrays(look: Look) -> Arrays:
    return {name: np.asarray(value) for name, value in vars(look).items()}
