"""Edits footage of talking people into every kind that a scan must recognise, with the cuts that it then has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

Frames = list[np.ndarray]


@dataclass(frozen=True)
class Footage:
    """Frames (H, W, 3) at 25 fps, and the frames at which a new shot starts."""

    frames: Frames
    cuts: tuple[int, ...] = ()


def zoomed(frames: Frames, scale: float, left: float = 0.5, top: float = 0.5) -> Frames:
    """Enlarges a part of each frame to the whole."""
    height, width = frames[0].shape[:2]
    w, h = width / scale, height / scale
    x, y = left * (width - w), top * (height - h)
    box = (x, y, x + w, y + h)
    return [
        np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC, box=box))
        for frame in frames
    ]


def joined(*pieces: Frames) -> Footage:
    """Hard cuts from one piece to the next."""
    cuts = np.cumsum([len(piece) for piece in pieces])[:-1]
    return Footage([frame for piece in pieces for frame in piece], tuple(map(int, cuts)))


def blended(a: Frames, b: Frames, span: int) -> Footage:
    """A dissolve of ``span`` frames; its middle counts as the cut."""
    weights = (np.arange(span) + 1) / (span + 1)
    mixed = [(x * (1 - w) + y * w).astype(np.uint8) for x, y, w in zip(a[-span:], b[:span], weights, strict=True)]
    return Footage([*a[:-span], *mixed, *b[span:]], (len(a) - span // 2,))


def faded(a: Frames, b: Frames, span: int) -> Footage:
    """Out to black and in again, each of ``span`` frames."""
    down = np.linspace(1, 0, span)
    out = [(frame * weight).astype(np.uint8) for frame, weight in zip(a[-span:], down, strict=True)]
    back = [(frame * weight).astype(np.uint8) for frame, weight in zip(b[:span], down[::-1], strict=True)]
    return Footage([*a[:-span], *out, *back, *b[span:]], (len(a),))


def shaken(frames: Frames, pixels: int, seed: int = 0) -> Frames:
    """A camera that shakes: each frame is shifted at random."""
    generator = np.random.default_rng(seed)
    shifts = generator.integers(-pixels, pixels + 1, (len(frames), 2))
    return [np.roll(frame, tuple(shift), (0, 1)) for frame, shift in zip(frames, shifts, strict=True)]


def flashed(frames: Frames, at: Sequence[int]) -> Frames:
    """Photographers' flashes of one frame."""
    return [
        np.clip(frame.astype(int) + 150, 0, 255).astype(np.uint8) if index in at else frame
        for index, frame in enumerate(frames)
    ]


def noise(shape: tuple[int, ...], count: int, seed: int = 1) -> Frames:
    """Pictures without a face: coloured noise of coarse cells."""
    generator = np.random.default_rng(seed)
    cells = generator.integers(0, 256, (count, 8, 8, 3), np.uint8)
    return [np.asarray(Image.fromarray(cell).resize(shape[1::-1])) for cell in cells]


def letterboxed(frames: Frames, share: float) -> Frames:
    """Black bars over ``share`` of the height at top and bottom."""
    bar = round(frames[0].shape[0] * share)
    boxed = [frame.copy() for frame in frames]
    for frame in boxed:
        frame[:bar] = frame[len(frame) - bar :] = 0
    return boxed


def cut_kinds(a: Frames, b: Frames) -> dict[str, Callable[[], Footage]]:
    """Kinds of cuts and of what looks like one, from two people of at least 90 frames in equal framing."""
    moving = a[: len(a) // 3 * 3 : 3]
    return {
        "hard cut, matched framing": lambda: joined(a[:40], b[:40]),
        "interview, six changes": lambda: joined(a[:20], b[:20], a[20:40], b[20:40], a[40:60], b[40:60], a[60:80]),
        "jump cut with zoom": lambda: joined(a[:40], zoomed(a[50:90], 1.25, top=0.3)),
        "jump cut, equal framing": lambda: joined(a[:30], a[60:90]),
        "cutaways of 6 frames": lambda: joined(
            a[:30], noise(a[0].shape, 1) * 6, a[36:60], zoomed(b[40:46], 2.5), a[66:90]
        ),
        "dissolve of 12 frames": lambda: blended(a[:46], b[:46], 12),
        "fade through black": lambda: faded(a[:45], b[:45], 10),
        "flashes": lambda: Footage(flashed(a[:80], (20, 45, 46))),
        "camera shake": lambda: Footage(shaken(a[:80], max(2, a[0].shape[0] // 40))),
        "head three times as fast": lambda: Footage(moving),
        "slow zoom": lambda: Footage([zoomed([frame], 1 + 0.4 * index / 80)[0] for index, frame in enumerate(a[:80])]),
        "lights go on": lambda: Footage(
            [
                np.clip(f * (0.6 + 0.4 / (1 + np.exp(-(i - 40) / 4))), 0, 255).astype(np.uint8)
                for i, f in enumerate(a[:80])
            ]
        ),
    }
