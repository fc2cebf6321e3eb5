"""FID as a torchmetrics Metric: Fréchet distance (``metrics.functional.frechet``) of Inception features."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metrics.frechet import FrechetMetric
from metrics.networks.inception import InceptionFeatures
from metrics.networks.proxy import ProxyImage


class FrechetInceptionDistance(FrechetMetric):
    """FID over all frames of all videos, pooled; equals pytorch-fid 0.3.0.

    Protocol: bilinear resize to 299 x 299 without antialiasing inside the network, pool3 features (2048), float64,
    covariance divided by N - 1. uint8 frames give the same value as lossless PNG files. Unit: squared feature units;
    lower is better, 0 is equal. Biased upwards for small N: use at least 2048 frames, and the same number for all rows
    of a table. Source: Heusel et al., NeurIPS 2017; github.com/mseitzer/pytorch-fid 0.3.0.

    Args:
        network: Feature network with the weights ``pt_inception-2015-12-05-6726825d.pth``, or the proxy
            ``ProxyImage``.

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
        """Adds images of one side.

        Args:
            images: (B, 3, H, W) RGB, uint8 or float in [0, 1].
            real: Whether the images are real (reference) or generated.
        """
        self.add(self.network(images.to(self.device)), real)
