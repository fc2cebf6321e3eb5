"""Protocol of metrics in an evaluation."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from configs.evaluation import EvaluateConfig
from configs.registries import METRICS
from evaluation.aligned_clips import Clips
from evaluation.frechet_scores import DistributionMetric, Progress, Stores
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Value

Measures = dict[str, dict[str, Any]]  # column -> value, n and, without a value, the reason


class Metric(Protocol):
    """Metric with its networks, built as ``Class(config, device)``.

    ``config`` is the field of ``EvaluateConfig`` with the metric's name; None for a user-defined metric.
    """

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Progress) -> None:
        """Computes features of some clips and stores them for ``values``; used with several processes.

        Args:
            clips: All aligned pairs.
            own: Pairs of this process.
            stores: Caches of the reference and the generated side.
            progress: Called with the number of finished frames.

        Raises:
            NotComputed: If the metric cannot be computed for these clips.
        """
        ...

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes the values over all clips.

        Args:
            clips: Aligned pairs.
            expected: Number of pairs if no video were missing.
            stores: Caches of the reference and the generated side.
            bootstrap: Number of resamples and their seed.
            progress: Called with the number of finished frames.

        Returns:
            The values, the missing videos, and the entries per clip.

        Raises:
            NotComputed: If the metric cannot be computed.
        """
        ...

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> Measures:
        """Computes the values over ``length`` frames from frame ``first`` on."""
        ...


def settings_of(config: EvaluateConfig, name: str) -> Any:
    """Returns the settings of a metric: the field with its name, or the one that its class names in ``settings``."""
    made: Any = METRICS.get(name, "metrics")
    return getattr(config, getattr(made, "settings", name), None)


def build_metric(name: str, config: Any, device: torch.device) -> Metric:
    """Builds the metric ``name``; an extractor of that name is wrapped in a ``DistributionMetric``.

    Raises:
        UnknownName: If no metric is registered under ``name``.
        NotComputed: If a network is missing.
    """
    made: Any = METRICS.get(name, "metrics")(config, device)
    return DistributionMetric(made) if hasattr(made, "extract") or hasattr(made, "collector") else made
