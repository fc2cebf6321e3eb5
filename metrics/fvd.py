"""FVD as a torchmetrics Metric."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metrics.frechet import FrechetMetric
from metrics.functional.fvd import FVDProtocol, preprocess, protocol_named
from metrics.networks.i3d import I3D
from metrics.networks.metric_weights import Weights
from metrics.networks.proxy import ProxyVideo


class FrechetVideoDistance(FrechetMetric):
    """FVD over one clip per video; StyleGAN-V's ``fvd2048_16f`` unless another published flavour is named.

    Protocol: 16 consecutive frames (``metrics.functional.fvd.sample_clips`` says which), squashed to 224 x 224
    bilinear without antialiasing, [-1, 1], I3D's 400 logits averaged over time, covariance over N. Values of different
    flavours, clip lengths or numbers of clips are not comparable. Unit: squared logit units; lower is better, 0 is
    equal. Below 400 clips the covariance is singular: computed exactly, biased upwards, announced by a warning. Source:
    Unterthiner et al. 2018; Skorokhodov et al., CVPR 2022 (StyleGAN-V).

    Args:
        weights: ``i3d_torchscript.pt`` or ``i3d_pretrained_400.pt``, or tensors by name; or the proxy itself.
        protocol: a name in ``metrics.functional.fvd.PROTOCOLS``, or a protocol of one's own.

    Examples:
        >>> from metrics.fvd import FrechetVideoDistance
        >>> metric = FrechetVideoDistance("i3d_torchscript.pt")  # doctest: +SKIP
        >>> metric.update(real_clips, real=True); metric.update(generated_clips, real=False)  # doctest: +SKIP
        >>> metric.compute()  # doctest: +SKIP
    """

    def __init__(
        self, weights: Weights | ProxyVideo, protocol: str | FVDProtocol = "stylegan-v", **kwargs: Any
    ) -> None:
        chosen = protocol_named(protocol) if isinstance(protocol, str) else protocol
        proxy = isinstance(weights, ProxyVideo)
        network = weights if isinstance(weights, ProxyVideo) else I3D(weights, eps=chosen.eps)
        super().__init__(network.dimensions, convention=chosen.convention, **kwargs)
        self.protocol = chosen
        self.network = network
        self.name = "FVD proxy (small trained network)" if proxy else "FVD"

    def update(self, clips: Tensor, real: bool) -> None:
        """Adds (B, T, 3, H, W) RGB clips, uint8 or float in [0, 1]."""
        self.add(self.network(preprocess(clips.to(self.device), self.protocol)), real)
