"""Features of FID: one vector per frame.

Shapes: B frames, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from configs.evaluation import FIDConfig
from evaluation.aligned_clips import Clips, Side
from evaluation.cache import Arrays
from evaluation.extractor import as_images, title_of
from evaluation.networks import LoadedNetwork, Source, load, load_proxy
from evaluation.one_pass import Collector
from evaluation.results import Column
from metrics.networks.inception import InceptionFeatures
from metrics.networks.proxy import ProxyImage


class FIDFeatures:
    """``Extractor`` of FID: Inception's pool3 features of every frame."""

    name = "fid"
    columns: tuple[Column, ...] = (Column("fid", "FID", "lower", low=0.0),)
    unit = "frames"
    convention = "pytorch-fid"

    def __init__(self, config: FIDConfig, device: torch.device) -> None:
        loaded: LoadedNetwork[InceptionFeatures] | LoadedNetwork[ProxyImage]
        network: ProxyImage | type[InceptionFeatures] = InceptionFeatures
        if config.network == "proxy":
            loaded = load_proxy("fid", "image", config.weights, device, ProxyImage)
            network = loaded.network
        else:
            loaded = load("inception_fid", config.weights, "InceptionV3 (pytorch-fid)", InceptionFeatures, device)
        self.loaded, self.device = loaded, device
        self.sources: tuple[Source, ...] = (loaded.source,)
        self.title = title_of("FID", config.network, loaded.source)
        self.dimensions = network.dimensions
        self.batch_size = config.batch_size
        self.protocol: dict[str, object] = {
            "name": "pytorch-fid 0.3.0" if config.network == "inception" else "as pytorch-fid, with another network",
            "frames": "all frames of all clips, pooled",
            "resize": f"bilinear {network.input_size} pixels, no antialiasing, inside the network",
            "covariance": "N - 1",
        }

    def plan(self, clips: Clips) -> list[str | None]:
        """Accepts every clip."""
        return [None] * len(clips)

    def key(self, side: Side) -> dict[str, object]:
        """Returns the network's hash and dimensions."""
        return {"network": self.sources[0].sha256, "dimensions": self.dimensions}

    def collector(self, side: Side) -> Collector:
        """Returns the collector of (F, D) features of all frames of the video."""
        return NetworkFrames(self.loaded, side, {"what": "fid", **self.key(side)}, self.batch_size)


class NetworkFrames:
    """``Collector`` of one feature vector per frame, of the whole video.

    Args:
        network: Function from (B, 3, H, W) uint8 to (B, D).
        side: Side with the video.
        key: Everything that the features depend on, except the video.
        batch_size: Frames per call of the network.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], side: Side, key: dict[str, object], batch_size: int
    ) -> None:
        self.key = {"video": side.video, **key}
        self.first, self.count = 0, side.info.frames
        self._network, self._batch_size = network, batch_size
        self._waiting: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Computes features of full batches; see ``Collector``."""
        self._waiting += frames
        while len(self._waiting) >= self._batch_size:
            self._compute()

    def arrays(self) -> Arrays:
        """Computes the features of the rest; see ``Collector``."""
        while self._waiting:
            self._compute()
        features = np.concatenate(self._features)
        frames = np.arange(len(features), dtype=np.int32)
        return {"features": features, "frames": frames, "seen": np.asarray(len(features))}

    def _compute(self) -> None:
        batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
        self._features.append(self._network(as_images(batch)).cpu().numpy())
