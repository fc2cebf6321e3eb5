"""Measures of the pictures themselves, taken while a clip is decoded once: thumbnails, hashes, borders, freezes.

Shapes: F frames at 25 fps, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from scipy.fft import dctn

SIDE = 32  # side of a thumbnail, pixels
FINE = 128  # side to which pictures are thinned out before they are averaged, pixels
SAME = 0.05  # grey levels; pictures whose thumbnails differ less are equal, as repeats survive lossy coding
FLAT = 3.0  # grey levels; standard deviation of a row or column of a border
DARK = 24.0  # grey levels; mean of a border at most
SAMPLED_EVERY = 10  # frames between the pictures that are kept for blur and borders
KEPT_BYTES = 96_000_000  # of kept pictures; the interval doubles when a long or large clip exceeds it


def thin(picture: np.ndarray) -> np.ndarray:
    """Luma of an (H, W, 3) RGB picture at every n-th pixel, at least 128 a side where it has them; uint8."""
    step = max(1, min(picture.shape[:2]) // FINE)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture[::step, ::step])).convert("L"))


def thumbnail(luma: np.ndarray) -> np.ndarray:
    """(32, 32) float32: averages of equal parts of a grey picture."""
    resized = Image.fromarray(luma).convert("F").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


@dataclass
class PictureSignals:
    """Thumbnails of all frames and a few whole pictures; filled frame by frame.

    Attributes:
        thumbnails: (32, 32) float32 grey levels of each frame.
        kept: Frame -> (H, W, 3) picture, at equal intervals.
        size: (width, height) of the pictures.
    """

    thumbnails: list[np.ndarray] = field(default_factory=list)
    kept: dict[int, np.ndarray] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    _interval: int = SAMPLED_EVERY

    def add(self, picture: np.ndarray) -> None:
        """Measures the next frame, (H, W, 3) uint8 RGB."""
        index = len(self.thumbnails)
        self.thumbnails.append(thumbnail(thin(picture)))
        self.size = (picture.shape[1], picture.shape[0])
        if index % self._interval == 0:
            self.kept[index] = picture
            if len(self.kept) * picture.nbytes > KEPT_BYTES and len(self.kept) > 1:
                self._interval *= 2
                self.kept = {frame: kept for frame, kept in self.kept.items() if frame % self._interval == 0}


def differences(thumbnails: np.ndarray) -> np.ndarray:
    """(F,) mean absolute difference of each thumbnail to the one before, grey levels; 0 for the first."""
    return np.concatenate([[0.0], np.abs(np.diff(thumbnails, axis=0)).mean((1, 2))])


def perceptual_hash(thumb: np.ndarray) -> str:
    """64-bit DCT hash of a thumbnail, 16 hexadecimal digits; near-equal pictures differ in few bits."""
    low = dctn(thumb.astype(np.float64), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if bit else '0' for bit in bits), 2):016x}"


def borders(pictures: list[np.ndarray]) -> tuple[int, int, int, int]:
    """Dark, flat bars that all pictures have in common.

    Args:
        pictures: (H, W, 3) uint8 pictures of one shot.

    Returns:
        Widths of the bars left, top, right and bottom, pixels; 0 where there is none. All 0 for a dark picture.
    """
    chosen = pictures[:: max(1, len(pictures) // 6)]
    grey = np.stack([np.asarray(Image.fromarray(picture).convert("L"), np.float32) for picture in chosen])
    widths = []
    for axis in (2, 1):  # along rows, then along columns
        flat = ((grey.std(axis) < FLAT) & (grey.mean(axis) < DARK)).all(0)
        inside = np.flatnonzero(~flat)
        if not len(inside):
            return 0, 0, 0, 0
        widths += [int(inside[0]), int(len(flat) - 1 - inside[-1])]
    top, bottom, left, right = widths
    return left, top, right, bottom


def frozen_runs(thumbnails: np.ndarray, times: np.ndarray) -> tuple[int, float]:
    """Pictures that stand still.

    Args:
        thumbnails: (F, 32, 32) of one shot.
        times: (F,) times of the source pictures; a source of a low rate repeats a picture without standing still.

    Returns:
        Number of frames of the longest run of equal pictures, and the share of frames that equal the one before.
    """
    if len(thumbnails) < 2:
        return len(thumbnails), 0.0
    equal = differences(thumbnails)[1:] < SAME
    gaps = np.diff(np.unique(times))
    usual = float(np.median(gaps)) if len(gaps) else np.inf
    repeats = np.zeros(len(equal), bool)
    if usual > 1.5 / 25:  # below 17 fps
        repeats = np.diff(times) == 0
    still = equal & ~repeats
    longest = run = 0
    for now, skipped in zip(still, repeats, strict=True):
        run = run + 1 if now else (run if skipped else 0)
        longest = max(longest, run)
    return longest + 1, float(still.mean())
