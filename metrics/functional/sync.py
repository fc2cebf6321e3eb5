"""Sync-C and Sync-D from SyncNet embeddings (= LSE-C and LSE-D): distances over offsets, and what is read off them.

Shapes: T windows of five frames, D = 1024, J = 2 * 15 + 1 offsets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.signal import medfilt
from torch import Tensor
from torch.nn import functional as F

from metrics.functional.mfcc import mfcc

MAX_OFFSET = 15
WINDOW_FRAMES = 5
SAMPLES_PER_FRAME = 640  # 16 kHz at 25 fps
CEPSTRA_PER_FRAME = 4
CEPSTRA_PER_WINDOW = 20


@dataclass(frozen=True)
class SyncScores:
    """What syncnet_python prints for one track.

    Attributes:
        confidence: Sync-C: median of the mean distances over all offsets minus their minimum; higher is better.
        distance: Sync-D: that minimum; lower is better.
        offset: audio-video offset in frames at 25 fps; positive where the audio leads.
        windows: T.
        frame_confidence: (T,) median minus each window's distance at the best offset, median-filtered over 9.
    """

    confidence: float
    distance: float
    offset: int
    windows: int
    frame_confidence: np.ndarray = field(repr=False)


def sync_distances(lip: Tensor, audio: Tensor, max_offset: int = MAX_OFFSET, chunk: int = 256) -> Tensor:
    """Distance of every lip window to the audio windows around it.

    d[i, j] = |lip_i - audio_(i + j - max_offset) + 1e-6|, with zero vectors beyond both ends of the audio, which count.

    Args:
        lip: (T, D) embeddings, not normalised.
        audio: (T, D) likewise.
        max_offset: largest offset searched, frames.
        chunk: windows compared at a time, which bounds memory.

    Returns:
        (T, 2 * max_offset + 1).

    Raises:
        ValueError: if the shapes differ or there is no window.
    """
    if lip.ndim != 2 or lip.shape != audio.shape or len(lip) == 0:
        raise ValueError(f"need equal, non-empty (T, D) embeddings, got {tuple(lip.shape)} and {tuple(audio.shape)}")
    padded = F.pad(audio, (0, 0, max_offset, max_offset))
    around = padded.unfold(0, 2 * max_offset + 1, 1).transpose(1, 2)  # (T, J, D), a view
    parts = [
        F.pairwise_distance(own[:, None], other, eps=1e-6)
        for own, other in zip(lip.split(chunk), around.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def sync_scores(distances: Tensor) -> SyncScores:
    """Confidence, distance and offset of a (T, J) distance table, J odd.

    Examples:
        >>> lip = network.lip(frames)  # doctest: +SKIP
        >>> audio = network.audio(audio_windows(samples, windows=len(lip)))  # doctest: +SKIP
        >>> sync_scores(sync_distances(lip, audio)).confidence  # doctest: +SKIP
        7.1

    Raises:
        ValueError: if a distance is not finite.
    """
    if not torch.isfinite(distances).all():
        raise ValueError("the SyncNet distances hold NaN or infinity; look at the frames, the sound and the weights")
    mean = distances.mean(dim=0)
    median = mean.median()
    smallest, place = mean.min(dim=0)
    at_best = (median - distances[:, place]).cpu().numpy()
    return SyncScores(
        confidence=float(median - smallest),
        distance=float(smallest),
        offset=distances.shape[1] // 2 - int(place),
        windows=len(distances),
        frame_confidence=_medfilt(at_best, 9),
    )


def sync_windows(frames: int, samples: int) -> int:
    """T for a track of that many frames at 25 fps and samples at 16 kHz.

    One window less than fits: the last would need MFCC windows that do not exist (4 n - 1 of them are there).

    Raises:
        ValueError: if not even one window fits.
    """
    windows = min(frames, samples // SAMPLES_PER_FRAME) - WINDOW_FRAMES
    if windows < 1:
        raise ValueError(
            f"Sync needs at least 6 frames and 0.24 s of sound, got {frames} frames and {samples / 16_000:.2f} s"
        )
    return windows


def audio_windows(samples: np.ndarray, windows: int) -> Tensor:
    """(T, 1, 13, 20) float32 MFCC windows, 0.2 s each and 0.04 s apart, of (S,) int16 samples at 16 kHz."""
    cepstra = torch.from_numpy(mfcc(samples).T.astype(np.float32))
    cut = cepstra.unfold(1, CEPSTRA_PER_WINDOW, CEPSTRA_PER_FRAME)  # (13, T', 20)
    return cut[:, :windows].transpose(0, 1)[:, None]


def _medfilt(values: np.ndarray, size: int) -> np.ndarray:
    """Median filter with zeros beyond the ends; a series shorter than the filter is filtered just so."""
    return np.asarray(medfilt(np.pad(values, size), kernel_size=size)[size : size + len(values)])
