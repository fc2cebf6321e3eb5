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

    Protocol: syncnet_python: tracks at 25 fps, 224 px crops, offsets of +-15 frames; per video the track with most
    frames, over videos the plain mean. Videos without a track are counted, never dropped silently. Values of ``fast``
    clips are not comparable with published ones; the two modes may not be mixed. Unit: SyncNet embedding distance.
    Source: Chung and Zisserman, ACCV-W 2016; Prajwal et al., ACM MM 2020.

    Args:
        network: SyncNet; carries ``provenance``.

    Examples:
        >>> from metrics.networks.syncnet import SyncNet
        >>> from metrics.sync import SyncConfidenceDistance
        >>> from metrics.sync_pipeline import FFmpeg, reference_tracks
        >>> metric = SyncConfidenceDistance(SyncNet("syncnet_v2.model"))  # doctest: +SKIP
        >>> metric.update(reference_tracks(video, work, detector, FFmpeg.find()))  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
        {'sync_c': tensor(7.1), 'sync_d': tensor(7.6), 'videos': tensor(1), 'without_track': tensor(0)}
    """

    higher_is_better = None  # one of its two values is, the other is not
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
        """Adds one video by its tracks; none means that no face could be followed long enough."""
        self.add(self.score(tracks))

    def score(self, tracks: Sequence[TrackClip]) -> SyncScores | None:
        """Scores of one video: those of its longest track; None without a track.

        Raises:
            ValueError: if ``reference`` and ``fast`` clips meet.
        """
        self.modes |= {clip.mode for clip in tracks}
        if len(self.modes) > 1:
            raise ValueError("reference and fast clips give different numbers and may not be averaged")
        return score_clip(max(tracks, key=lambda clip: len(clip.frames)), self.network) if tracks else None

    def add(self, scores: SyncScores | None) -> None:
        """Adds one video by its scores, None where it had no track."""
        if scores is None:
            self.without_track = self.without_track + 1
        else:
            self.videos = self.videos + 1
            self.confidence = self.confidence + scores.confidence
            self.distance = self.distance + scores.distance
        self._computed = None
        self._update_count = max(self._update_count, 1)

    def compute(self) -> dict[str, Tensor]:
        """Means over the videos with a track, and how many had one.

        Raises:
            ValueError: if no video had a track.
        """
        if not int(self.videos):
            raise ValueError(
                f"none of {int(self.without_track)} videos has a face track: too short, no face, or faces below 100 "
                "pixels; lower min_track or min_face"
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

    def reset(self) -> None:
        """Forgets every video."""
        super().reset()
        self.modes = set()
