"""What a metric is to an evaluation, and a distance of distributions made one from its features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from configs.evaluation import EvaluateConfig
from configs.registries import METRICS
from evaluation.aligned_clips import Clip, Side
from evaluation.cache import FeatureStore
from evaluation.features import Extractor
from evaluation.frechet_scores import frechet_value, prepare_features
from evaluation.networks import NotComputed
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Value

Stores = tuple[FeatureStore, FeatureStore]  # of the reference side and of the generated side
Progress = Callable[[int], object]  # called with the frames done
Measures = dict[str, dict[str, Any]]  # column -> value, n and, without a value, the reason


class Metric(Protocol):
    """A metric with its networks on their device. It is built as ``Class(config, device)``.

    ``config`` is the part of ``EvaluateConfig`` that is called like the metric; None for one of a lab's own.
    """

    def prepare(self, clips: Sequence[Clip], own: Sequence[Clip], stores: Stores, progress: Progress) -> None:
        """Puts the features of some of the clips into the stores, where ``values`` will find them.

        Raises:
            NotComputed: if the metric cannot be computed of these clips.
        """
        ...

    def values(
        self, clips: Sequence[Clip], expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
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

    def window(self, clips: Sequence[Clip], first: int, length: int, stores: Stores) -> Measures:
        """Its values over ``length`` frames from ``first`` on."""
        ...


class DistributionMetric:
    """The Fréchet distance of an extractor's features."""

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor

    def prepare(self, clips: Sequence[Clip], own: Sequence[Clip], stores: Stores, progress: Progress) -> None:
        """See ``Metric``."""
        prepare_features(self.extractor, clips, own, stores, progress)

    def values(
        self, clips: Sequence[Clip], expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """See ``Metric``."""
        value, missing, rows = frechet_value(self.extractor, clips, expected, stores, bootstrap, progress)
        return [value], missing, rows

    def window(self, clips: Sequence[Clip], first: int, length: int, stores: Stores) -> Measures:
        """See ``Metric``."""
        name = self.extractor.name
        pieces = [
            replace(
                clip,
                generated=_piece(clip.generated, first, length),
                reference=_piece(clip.reference, first, length),
            )
            for clip in clips
        ]
        try:
            value, _, _ = frechet_value(self.extractor, pieces, len(pieces), stores, (0, 0), lambda _: None)
        except NotComputed as error:
            return {name: {"value": None, "n": 0, "reason": str(error).splitlines()[0]}}
        return {name: {"value": value.value, "n": value.clips}}


def build_metric(name: str, config: EvaluateConfig, device: torch.device) -> Metric:
    """The metric called ``name``, or around the extractor called so.

    Raises:
        UnknownName: when nobody registered it.
        NotComputed: if one of its networks is missing.
    """
    made: Any = METRICS.get(name, "metrics")(getattr(config, name, None), device)
    return DistributionMetric(made) if hasattr(made, "extract") else made


def _piece(side: Side, first: int, length: int) -> Side:
    return replace(side, start=side.start + first, frames=length)
