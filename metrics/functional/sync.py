"""Sync-C and Sync-D (LSE-C and LSE-D) from SyncNet embeddings.

    d[i, j] = |lip_i - audio_(i + j - 15) + 1e-6|,  m[j] = mean_i d[i, j]
    Sync-D = min_j m[j],  Sync-C = median_j m[j] - min_j m[j]

Shapes: T windows of five frames, D = 1024, J = 2 * 15 + 1 offsets.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
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
    """Scores that syncnet_python prints for one track.

    Attributes:
        confidence: Sync-C: median over offsets of the mean distance, minus the minimum; higher is better.
        distance: Sync-D: minimum over offsets of the mean distance; lower is better.
        offset: Audio-video offset in frames at 25 fps; positive if the audio leads.
        windows: Number of windows T.
        frame_confidence: (T,) median minus the window's distance at the best offset, median-filtered over 9 windows.
    """

    confidence: float
    distance: float
    offset: int
    windows: int
    frame_confidence: np.ndarray = field(repr=False)


def sync_distances(lip: Tensor, audio: Tensor, max_offset: int = MAX_OFFSET, chunk: int = 256) -> Tensor:
    """Computes the distance of every lip window to the audio windows around it.

    d[i, j] = |lip_i - audio_(i + j - max_offset) + 1e-6|. The audio is padded with zero vectors, whose distances are
    part of the means, as in syncnet_python.

    Args:
        lip: (T, D) lip embeddings, not normalised.
        audio: (T, D) audio embeddings, not normalised.
        max_offset: Largest offset, frames.
        chunk: Number of windows compared at a time; bounds the memory.

    Returns:
        (T, 2 * max_offset + 1) distances.

    Raises:
        ValueError: If the shapes differ or there is no window.
    """
    if lip.ndim != 2 or lip.shape != audio.shape or len(lip) == 0:
        raise ValueError(
            f"Sync: expected equal, non-empty (T, D) embeddings, found {tuple(lip.shape)} and {tuple(audio.shape)}"
        )
    padded = F.pad(audio, (0, 0, max_offset, max_offset))
    around = padded.unfold(0, 2 * max_offset + 1, 1).transpose(1, 2)  # (T, J, D), a view
    parts = [
        F.pairwise_distance(own[:, None], other, eps=1e-6)
        for own, other in zip(lip.split(chunk), around.split(chunk), strict=True)
    ]
    return torch.cat(parts)


def sync_scores(distances: Tensor) -> SyncScores:
    """Computes confidence, distance and offset from (T, J) distances, J odd.

    Examples:
        >>> lip = network.lip(frames)  # doctest: +SKIP
        >>> audio = network.audio(audio_windows(samples, windows=len(lip)))  # doctest: +SKIP
        >>> sync_scores(sync_distances(lip, audio)).confidence  # doctest: +SKIP
        7.1

    Raises:
        ValueError: If a distance is not finite.
    """
    if not torch.isfinite(distances).all():
        raise ValueError(
            "the SyncNet distances have NaN or infinite values; check the frames, the sound and the weights"
        )
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
    """Returns the number of windows T of a track.

    The last window that fits into n frames is not used: it needs 4 n MFCC windows, but there are 4 n - 1.

    Args:
        frames: Number of frames at 25 fps.
        samples: Number of sound samples at 16 kHz.

    Raises:
        ValueError: If the track is too short for one window.
    """
    windows = min(frames, samples // SAMPLES_PER_FRAME) - WINDOW_FRAMES
    if windows < 1:
        raise ValueError(
            f"Sync: expected at least 6 frames and 0.24 s of sound, found {frames} frames and {samples / 16_000:.2f} s"
        )
    return windows


def audio_windows(samples: np.ndarray, windows: int) -> Tensor:
    """Computes (T, 1, 13, 20) float32 MFCC windows of 0.2 s every 0.04 s, from (S,) int16 samples at 16 kHz."""
    cepstra = torch.from_numpy(mfcc(samples).T.astype(np.float32))
    cut = cepstra.unfold(1, CEPSTRA_PER_WINDOW, CEPSTRA_PER_FRAME)  # (13, T', 20)
    return cut[:, :windows].transpose(0, 1)[:, None]


def _medfilt(values: np.ndarray, size: int) -> np.ndarray:
    """Applies a median filter with zero padding; the series may be shorter than the filter."""
    from scipy.signal import medfilt  # late: it imports scipy.stats

    return np.asarray(medfilt(np.pad(values, size), kernel_size=size)[size : size + len(values)])
