"""Sync-C and Sync-D as a torchmetrics Metric."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from metrics.functional.sync import SyncScores
from metrics.networks.syncnet import DIMENSIONS, SyncNet
from metrics.sync_pipeline import TrackClip, score_clip


class SyncConfidenceDistance(Metric):
    """Sync-C (confidence, higher is better) and Sync-D (distance, lower is better), also called LSE-C and LSE-D.

    Protocol: syncnet_python with tracks at 25 fps, 224 px crops and offsets of +-15 frames. A video is scored on its
    longest track, and the result is the mean over videos. Videos without a track are counted and reported. Values of
    mode ``fast`` are not comparable with published values, and the modes cannot be mixed. Unit: distance of SyncNet
    embeddings. Source: Chung and Zisserman, ACCV-W 2016; Prajwal et al., ACM MM 2020.

    Args:
        network: SyncNet, official or proxy.

    Examples:
        >>> from metrics.networks.syncnet import SyncNet
        >>> from metrics.sync import SyncConfidenceDistance
        >>> from metrics.sync_pipeline import FFmpeg, reference_tracks
        >>> metric = SyncConfidenceDistance(SyncNet("syncnet_v2.model"))  # doctest: +SKIP
        >>> metric.update(reference_tracks(video, work, detector, FFmpeg.find()))  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
        {'sync_c': tensor(7.1), 'sync_d': tensor(7.6), 'videos': tensor(1), 'without_track': tensor(0)}
    """

    higher_is_better = None  # True for Sync-C, False for Sync-D
    is_differentiable = False
    full_state_update = False

    confidence: Tensor
    distance: Tensor
    videos: Tensor
    without_track: Tensor

    def __init__(self, network: SyncNet, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.network = network
        self.name = f"Sync-C/Sync-D{'' if network.dimensions == DIMENSIONS else ' proxy (small trained network)'}"
        self.modes: set[str] = set()
        for name in ("confidence", "distance"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("videos", "without_track"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, tracks: Sequence[TrackClip]) -> None:
        """Adds one video by its tracks; an empty sequence is a video without a usable track."""
        self.add(self.score(tracks))

    def score(self, tracks: Sequence[TrackClip]) -> SyncScores | None:
        """Scores one video on its longest track; None without a track.

        Raises:
            ValueError: If clips of both modes ``reference`` and ``fast`` were added.
        """
        self.modes |= {clip.mode for clip in tracks}
        if len(self.modes) > 1:
            raise ValueError(
                "Sync: found clips of modes reference and fast, whose values cannot be averaged; use one mode"
            )
        return score_clip(max(tracks, key=lambda clip: len(clip.frames)), self.network) if tracks else None

    def add(self, scores: SyncScores | None) -> None:
        """Adds one video by its scores; None for a video without a track."""
        if scores is None:
            self.without_track = self.without_track + 1
        else:
            self.videos = self.videos + 1
            self.confidence = self.confidence + scores.confidence
            self.distance = self.distance + scores.distance
        self._computed = None
        self._update_count = max(self._update_count, 1)

    def compute(self) -> dict[str, Tensor]:
        """Returns the means over the videos with a track, and the numbers of videos with and without one.

        Raises:
            ValueError: If no video has a track.
        """
        if not int(self.videos):
            raise ValueError(
                f"Sync: none of {int(self.without_track)} videos has a face track (too short, no face, or faces below "
                "100 pixels); lower min_track or min_face"
            )
        if int(self.without_track):
            total = int(self.videos + self.without_track)
            warnings.warn(f"Sync: {int(self.without_track)} of {total} videos have no face track", stacklevel=2)
        return {
            "sync_c": self.confidence / self.videos,
            "sync_d": self.distance / self.videos,
            "videos": self.videos.clone(),
            "without_track": self.without_track.clone(),
        }

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plots one or several values with torchmetrics; needs matplotlib.

        Args:
            val: Values of ``compute``; None for the current one.
            ax: Matplotlib axis; None for a new figure.

        Returns:
            Figure and axis.
        """
        return self._plot(val, ax)

    def reset(self) -> None:
        """Clears all videos."""
        super().reset()
        self.modes = set()
