"""Normalises a system's video for comparison: 25 fps by time, only the result panel, the original sound.

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
MAX_GAP = 0.5  # seconds by which the durations of video and sound may differ
CRF = 8  # almost lossless: metrics must measure the system's compression, not ours
DARK = 24  # of 255; a frame is black if its 99th percentile is below
FPS_SLACK = 0.01


@dataclass(frozen=True)
class WrittenVideo:
    """Properties of the video that a system wrote.

    Attributes:
        width: Pixels.
        height: Pixels.
        fps: Frame rate.
        seconds: Duration of its pictures.
    """

    width: int
    height: int
    fps: float
    seconds: float


@dataclass(frozen=True)
class Normalised:
    """Properties of the normalised clip.

    Attributes:
        frames: Number of frames at 25 fps.
        width: Pixels.
        height: Pixels.
        offset: Frame of the sound and of the real video that belongs to its frame 0.
        encoding: Encoding of the clip, which changes FID and FVD a little.
    """

    frames: int
    width: int
    height: int
    offset: int
    encoding: str = f"H.264 crf {CRF} 4:2:0"


def check_video(path: Path, output: Output, seconds: float) -> WrittenVideo:
    """Checks that a video is as the system's description expects.

    Args:
        path: Video of the system.
        output: Expected video.
        seconds: Duration of the sound that the system got.

    Raises:
        UserError: If it cannot be decoded, has another frame rate or duration, or is smaller than the panel.
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
            f"its video has {info.fps:g} frames per second, expected {output.fps:g}: its frames would be out of sync"
        )
    wanted = seconds - output.offset / FPS
    if abs(length - wanted) > MAX_GAP:
        raise UserError(
            f"its video lasts {length:.2f} s, expected {wanted:.2f} s within {MAX_GAP:g} s: it is incomplete, or "
            "belongs to another clip"
        )
    if output.panel:
        x, y, width, height = output.panel
        if x + width > info.width or y + height > info.height:
            raise UserError(
                f"its video is {info.width} x {info.height} pixels, too small for the result panel {output.panel}"
            )
    return found


def normalise(source: Path, target: Path, sound: np.ndarray, rate: int, output: Output) -> Normalised:
    """Writes the normalised clip completely or not at all.

    Args:
        source: Video of the system, checked by ``check_video``.
        target: Normalised clip.
        sound: (S,) float32 original speech, without padding.
        rate: Samples per second.
        output: Description of the video.

    Raises:
        UserError: If it is black, or cannot be decoded or written.
    """
    most = frames_of(len(sound), rate) - output.offset
    if most < 1:
        raise UserError(f"the sound has {most + output.offset} frames; the system drops the first {output.offset}")
    panel = tuple(output.panel) if output.panel else None
    frames = (cut_panel(frame, panel) for frame in FrameReader(source, fps=FPS))  # type: ignore[arg-type]
    return write_clip(target, islice(frames, most), sound[round(output.offset * rate / FPS) :], rate, output.offset)


def frames_of(samples: int, rate: int) -> int:
    """Number of frames at 25 fps that start before a sound ends."""
    return math.ceil(Fraction(samples * FPS, rate))


def write_clip(target: Path, frames: Iterable[np.ndarray], sound: np.ndarray, rate: int, offset: int) -> Normalised:
    """Writes frames with the sound that starts at the first of them.

    Raises:
        UserError: If more than half of the frames are black, or the video cannot be decoded or written.
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
    """Drops an odd last row or column, which H.264 does not support."""
    for frame in frames:
        yield np.ascontiguousarray(frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2])


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest
