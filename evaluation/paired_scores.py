"""Scores of single pairs, averaged over the clips: base of AED, APD, LMD, PSNR, SSIM and lip stability."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from encoders.landmarks.sidecar import LandmarkFileError
from evaluation.aligned_clips import AlignedClip, Clips
from evaluation.cache import FeatureStore
from evaluation.extractor import UnusableVideo
from evaluation.networks import NotComputed, Source
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Column, ConfidenceInterval, Value
from media import MediaError
from metrics.functional.bootstrap import Z, resampled

Stores = tuple[FeatureStore, FeatureStore]
FAILURES = (UnusableVideo, MediaError, LandmarkFileError, ValueError)  # errors of a single pair


class PairedMetric(ABC):
    """``Metric`` that is the mean over clips of a score of each pair.

    Attributes:
        columns: Table column of the value, a single one.
        unit: Unit of the compared samples of a pair.
        sources: Networks.
        protocol: All settings that the value depends on.
        official: Whether the networks are those of the reference implementation.
    """

    columns: ClassVar[tuple[Column, ...]]
    unit: ClassVar[str] = "frames"
    sources: tuple[Source, ...]
    protocol: dict[str, object]

    @abstractmethod
    def score(self, clip: AlignedClip, stores: Stores) -> tuple[float, int]:
        """Returns the score of one pair and the number of compared samples.

        Raises:
            UnusableVideo: If the pair cannot be scored.
        """

    @property
    def official(self) -> bool:
        """Whether all networks are official."""
        return all(source.official for source in self.sources)

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Callable[[int], object]) -> None:
        """Computes what the scores of ``own`` need; see ``Metric``."""
        for clip in own:
            with suppress(*FAILURES):
                self.score(clip, stores)
            progress(2 * clip.generated.frames)

    def values(
        self,
        clips: Clips,
        expected: int,
        stores: Stores,
        bootstrap: tuple[int, int],
        progress: Callable[[int], object],
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes the mean over the clips; see ``Metric``.

        Raises:
            NotComputed: If no pair has a score.
        """
        column = self.columns[0]
        missing, scores, samples = [], {}, 0
        for clip in clips:
            try:
                scores[clip.name], count = self.score(clip, stores)
                samples += count
            except FAILURES as error:
                missing.append(Missing(clip.name, "both", column.metric, str(error)))
            progress(2 * clip.generated.frames)
        if not scores:
            raise NotComputed(f"no pair of videos has a value of {column.title}", missing)
        known = np.array(list(scores.values()))
        value = Value(
            name=column.metric,
            title=column.title if self.official else f"{column.title} proxy (unofficial networks)",
            value=float(known.mean()),
            better=column.better,
            official=self.official,
            sources=self.sources,
            protocol=self.protocol,
            clips=len(scores),
            expected=expected,
            samples={"pairs": samples},
            unit=self.unit,
            interval=interval_of_mean(known, bootstrap),
            warnings=tuple(source.note for source in self.sources if source.note),
        )
        return [value], missing, {name: {"generated": {column.metric: score}} for name, score in scores.items()}

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> dict[str, dict[str, Any]]:
        """Computes the value over one window of all clips; see ``Metric``."""
        name = self.columns[0].metric
        pieces = [
            replace(clip, generated=clip.generated.part(first, length), reference=clip.reference.part(first, length))
            for clip in clips
        ]
        try:
            (value,), _, _ = self.values(pieces, len(pieces), stores, (0, 0), lambda _: None)
        except NotComputed as error:
            return {name: {"value": None, "n": 0, "reason": str(error)}}
        return {name: {"value": value.value, "n": value.clips}}


def interval_of_mean(values: np.ndarray, bootstrap: tuple[int, int]) -> ConfidenceInterval | None:
    """Returns the interval of the mean of (C,) values of clips; None without resamples, or below three clips."""
    resamples, seed = bootstrap
    if not resamples or len(values) < 3:
        return None
    times = resampled(len(values), resamples, seed)
    error = float((times @ values / len(values)).std(ddof=1))
    mean = float(values.mean())
    return ConfidenceInterval(mean - Z * error, mean + Z * error, resamples, seed, "clips", "the mean over clips")
