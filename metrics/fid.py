"""FID as a torchmetrics Metric."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metrics.frechet import FrechetMetric
from metrics.networks.inception import InceptionFeatures
from metrics.networks.proxy import ProxyImage


class FrechetInceptionDistance(FrechetMetric):
    """FID over all frames of all videos, pooled; pytorch-fid 0.3.0's numbers.

    Protocol: bilinear 299 x 299 without antialiasing inside the network, pool3 features (2048), float64, covariance
    over N - 1. Frames in memory as uint8 give the bits of lossless PNGs. Unit: squared feature units; lower is better,
    0 is equal; biased upwards for small N (2048 frames at least, the same number in every row of a table). Source:
    Heusel et al., NeurIPS 2017; github.com/mseitzer/pytorch-fid 0.3.0.

    Args:
        network: the feature network, holding ``pt_inception-2015-12-05-6726825d.pth``, or the proxy
            ``ProxyImage``; carries ``provenance``.

    Examples:
        >>> from metrics.fid import FrechetInceptionDistance
        >>> from metrics.networks.inception import InceptionFeatures
        >>> weights = "pt_inception-2015-12-05-6726825d.pth"
        >>> metric = FrechetInceptionDistance(InceptionFeatures(weights))  # doctest: +SKIP
        >>> metric.update(real_frames, real=True); metric.update(generated_frames, real=False)  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
    """

    def __init__(self, network: InceptionFeatures | ProxyImage, **kwargs: Any) -> None:
        super().__init__(network.dimensions, convention="pytorch-fid", **kwargs)
        self.network = network
        self.name = "FID" if isinstance(network, InceptionFeatures) else "FID proxy (small trained network)"

    def update(self, images: Tensor, real: bool) -> None:
        """Adds (B, 3, H, W) RGB images, uint8 or float in [0, 1]."""
        self.add(self.network(images.to(self.device)), real)
