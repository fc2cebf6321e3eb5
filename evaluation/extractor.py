"""Protocol of the extractors of FID, FVD and E-FID, and what they share.

Shapes: N samples, D features, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from evaluation.aligned_clips import Clips, Side
from evaluation.cache import Arrays
from evaluation.networks import Source
from evaluation.one_pass import Collector
from evaluation.results import Column
from runtime.errors import UserError


class UnusableVideo(UserError):
    """Raised if a metric cannot be computed for a video; the message has the reason."""


class Extractor(Protocol):
    """Extractor of the features of one metric; it is also ``Extracting`` or ``Collecting``.

    Attributes:
        name: Name of the metric in the configuration.
        columns: Table column of the value, a single one.
        title: Printed name; the official name only for the official network.
        unit: Unit of a sample: frames or clips.
        dimensions: Number of features D.
        convention: Convention of the Fréchet distance.
        sources: Networks, the feature network first.
        protocol: All settings that the value depends on.
    """

    name: str
    columns: tuple[Column, ...]
    title: str
    unit: str
    dimensions: int
    convention: str
    sources: tuple[Source, ...]
    protocol: dict[str, object]

    def plan(self, clips: Clips) -> list[str | None]:
        """Checks all clips before the first is read; returns None for a usable clip, otherwise the reason."""
        ...

    def key(self, side: Side) -> dict[str, object]:
        """Returns everything that the features of a side depend on, except its frames."""
        ...


class Extracting(Extractor, Protocol):
    """Extractor that reads a video itself."""

    def extract(self, side: Side) -> Arrays:
        """Extracts the features of a side.

        Returns:
            ``features``, (N, D) float32, and ``seen``, the number of frames that were read.

        Raises:
            UnusableVideo: If the video has no features.
            MediaError: If the video cannot be read.
        """
        ...


class Collecting(Extractor, Protocol):
    """Extractor whose features come from the single decoding of a video that all metrics share."""

    def collector(self, side: Side) -> Collector:
        """Returns the collector of the features of a side."""
        ...


def is_collecting(extractor: Extractor) -> TypeGuard[Collecting]:
    """Whether an extractor is ``Collecting``; otherwise it is ``Extracting``."""
    return hasattr(extractor, "collector")


def title_of(metric: str, network: str, source: Source) -> str:
    """Returns the printed name of a value: the official name only for the official network."""
    if network == "proxy":
        return f"{metric} proxy (small trained network)"
    return metric if source.official else f"{metric} proxy (unofficial weights)"


def as_images(frames: Sequence[np.ndarray]) -> Tensor:
    """Stacks (H, W, 3) uint8 frames to (B, 3, H, W)."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
