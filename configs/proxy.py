"""Schema of the proxy networks of the metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.fields import at_least, choice, positive

Kind = Literal["sync", "image", "video", "expression"]


@dataclass
class ProxyConfig:
    """Small network that replaces the official network of a metric.

    Attributes:
        kind: sync, image, video or expression.
        options: Options of the network, e.g. {width: 0.125}; see ``metrics/networks/proxy.py``.
        factors: Names of the true factors that kind=expression predicts.
        min_track: Minimum length of a face track for kind=sync, frames.
        min_face: Minimum size of a face for kind=sync, pixels of the shards' frames.
        lr: Maximum learning rate of AdamW; it rises over a tenth of the steps and decays to 0 along a cosine.
        weight_decay: Weight decay of AdamW.
    """

    kind: str = choice("sync", Kind)
    options: dict[str, Any] = field(default_factory=dict)
    factors: list[str] = field(default_factory=list)
    min_track: int = positive(10)
    min_face: float = positive(16.0)
    lr: float = positive(2e-3)
    weight_decay: float = at_least(0.01, 0)
