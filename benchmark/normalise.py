"""A system's video as a clip one can compare: 25 frames per second by time, its result panel, the original sound.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from benchmark.system import Output
from evaluation.aligned_clips import cut_panel
from media import FrameReader, MediaError, VideoWriter, probe
from runtime.errors import UserError

FPS = 25
MAX_GAP = 0.5  # seconds a video may be shorter or longer than its sound
CRF = 8  # close to lossless: the metrics shall see the system's own compression, not ours
DARK = 24  # of 255; a frame whose brightest hundredth is darker shows nothing
FPS_SLACK = 0.01


@dataclass(frozen=True)
class WrittenVideo:
    """The video as the system wrote it.

    Attributes:
        width: pixels.
        height: pixels.
        fps: its own frame rate.
        seconds: how long its pictures last.
    """

    width: int
    height: int
    fps: float
    seconds: float


@dataclass(frozen=True)
class Normalised:
    """The clip made of it.

    Attributes:
        frames: at 25 fps.
        width: pixels.
        height: pixels.
        offset: its frame 0 belongs to this frame of the sound and of the real video.
    """

    frames: int
    width: int
    height: int
    offset: int


def look_at(path: Path, output: Output, seconds: float) -> WrittenVideo:
    """Checks that a video is what the system is said to write.

    Args:
        path: the system's video.
        output: what it should be.
        seconds: length of the sound the system was given.

    Raises:
        UserError: if it cannot be decoded, has another frame rate or length, or lacks the panel.
    """
    try:
        info = probe(path)
        if not info.width:
            raise UserError(f"{path.name}: has no picture, only sound")
        reader = FrameReader(path, fps=FPS)
        reader.check()
    except MediaError as error:
        raise UserError(f"its video cannot be decoded: {error}") from error
    length = len(reader) / FPS
    found = WrittenVideo(info.width, info.height, info.fps, length)
    if output.fps is not None and abs(info.fps - output.fps) > FPS_SLACK * output.fps:
        raise UserError(
            f"its video has {info.fps:g} frames per second, expected {output.fps:g}: frames would not be in time"
        )
    wanted = seconds - output.offset / FPS
    if abs(length - wanted) > MAX_GAP:
        raise UserError(
            f"its video lasts {length:.2f} s, expected {wanted:.2f} s within {MAX_GAP:g} s: it is cut short, or "
            "another clip's"
        )
    if output.panel:
        x, y, width, height = output.panel
        if x + width > info.width or y + height > info.height:
            raise UserError(
                f"its video is {info.width} x {info.height} pixels, too small for the result panel {output.panel}"
            )
    return found


def normalise(source: Path, target: Path, sound: np.ndarray, rate: int, output: Output) -> Normalised:
    """Writes the clip; ``target`` appears only when it is whole.

    Args:
        source: the system's video, checked by ``look_at``.
        target: the clip.
        sound: (S,) float32, the original speech, without padding.
        rate: samples per second.
        output: what the video is.

    Raises:
        UserError: if it is black, or cannot be decoded or written.
    """
    most = frames_of(len(sound), rate) - output.offset
    if most < 1:
        raise UserError(f"the sound has {most + output.offset} frames, of which the system leaves out {output.offset}")
    panel = tuple(output.panel) if output.panel else None
    frames = (cut_panel(frame, panel) for frame in FrameReader(source, fps=FPS))  # type: ignore[arg-type]
    return write_clip(target, islice(frames, most), sound[round(output.offset * rate / FPS) :], rate, output.offset)


def frames_of(samples: int, rate: int) -> int:
    """How many frames at 25 fps begin before a sound ends."""
    return math.ceil(Fraction(samples * FPS, rate))


def write_clip(target: Path, frames: Iterable[np.ndarray], sound: np.ndarray, rate: int, offset: int) -> Normalised:
    """Writes frames and the sound that begins with the first of them.

    Raises:
        UserError: if more than half of the frames are black, or it cannot be decoded or written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        rest = _even(frames)
        first = next(rest)
        height, width = first.shape[:2]
        count = dark = 0
        with VideoWriter(target, size=(width, height), sound=sound, sound_rate=rate, crf=CRF) as writer:
            for frame in _chain(first, rest):
                writer.write(frame)
                count += 1
                dark += np.percentile(frame[::4, ::4], 99) < DARK
            if dark > count / 2:
                raise UserError(f"its video is black in {dark} of {count} frames")
    except (MediaError, OSError) as error:
        raise UserError(str(error)) from error
    return Normalised(count, width, height, offset)


def _even(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Without the last row or column of odd ones, which H.264 cannot hold."""
    for frame in frames:
        yield np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
