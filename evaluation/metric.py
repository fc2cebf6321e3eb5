"""What a metric is to an evaluation."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from configs.registries import METRICS
from evaluation.aligned_clips import Clips
from evaluation.frechet_scores import DistributionMetric, Progress, Stores
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Value

Measures = dict[str, dict[str, Any]]  # column -> value, n and, without a value, the reason


class Metric(Protocol):
    """A metric with its networks on their device. It is built as ``Class(config, device)``.

    ``config`` is the part of ``EvaluateConfig`` that is called like the metric; None for one of a lab's own.
    """

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Progress) -> None:
        """Puts the features of some of the clips into the stores, where ``values`` will find them.

        Raises:
            NotComputed: if the metric cannot be computed of these clips.
        """
        ...

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Its values over all clips, what is missing from them, and what was found per clip.

        Args:
            clips: the pairs that can be compared.
            expected: how many there would be if nothing was missing.
            stores: for features.
            bootstrap: number of resamples and their seed.
            progress: called with the frames done.

        Raises:
            NotComputed: if it cannot be computed.
        """
        ...

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> Measures:
        """Its values over ``length`` frames from ``first`` on."""
        ...


def build_metric(name: str, config: Any, device: torch.device) -> Metric:
    """The metric called ``name`` with its own configuration, or around the extractor called so.

    Raises:
        UnknownName: when nobody registered it.
        NotComputed: if one of its networks is missing.
    """
    made: Any = METRICS.get(name, "metrics")(config, device)
    return DistributionMetric(made) if hasattr(made, "extract") else made
