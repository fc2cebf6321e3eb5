"""The type of the proxy experiments' configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from configs.fields import at_least, choice, positive

Kind = Literal["sync", "image", "video", "expression"]


@dataclass
class ProxyConfig:
    """A small network of the kind a metric's official one is.

    Attributes:
        kind: sync, image, video or expression.
        options: of the network, e.g. {width: 0.125}; see ``metrics/networks/proxy.py``.
        factors: names of the true factors that kind=expression learns.
        min_track: kind=sync: shorter face tracks are not learnt from, frames.
        min_face: kind=sync: faces must be larger, pixels of the shards' frames.
        lr: of AdamW; it rises over a tenth of the steps and falls to zero along a cosine.
        weight_decay: of AdamW.
    """

    kind: str = choice("sync", Kind)
    options: dict[str, Any] = field(default_factory=dict)
    factors: list[str] = field(default_factory=list)
    min_track: int = positive(10)
    min_face: float = positive(16.0)
    lr: float = positive(2e-3)
    weight_decay: float = at_least(0.01, 0)
