"""FVD as a torchmetrics Metric: Fréchet distance (``metrics.functional.frechet``) of I3D logits."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metrics.frechet import FrechetMetric
from metrics.functional.fvd import FVDProtocol, preprocess, protocol_named
from metrics.networks.i3d import I3D
from metrics.networks.metric_weights import Weights
from metrics.networks.proxy import ProxyVideo


class FrechetVideoDistance(FrechetMetric):
    """FVD over one clip per video, by default StyleGAN-V's ``fvd2048_16f``.

    Protocol: 16 consecutive frames (see ``metrics.functional.fvd.sample_clips``), bilinear resize to 224 x 224 without
    antialiasing and without keeping the aspect ratio, range [-1, 1], I3D's 400 logits averaged over time, covariance
    divided by N. Values of different protocols, clip lengths or numbers of clips are not comparable. Unit: squared
    logit units; lower is better, 0 is equal. Below 400 clips the covariance is singular: the value is exact, but biased
    upwards, and a warning is issued. Source: Unterthiner et al., 2018; Skorokhodov et al., CVPR 2022 (StyleGAN-V).

    Args:
        weights: ``i3d_torchscript.pt`` or ``i3d_pretrained_400.pt``, or tensors by name; or a proxy network.
        protocol: Name in ``metrics.functional.fvd.PROTOCOLS``, or a user-defined protocol.

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
        """Adds clips of one side.

        Args:
            clips: (B, T, 3, H, W) RGB, uint8 or float in [0, 1].
            real: Whether the clips are real (reference) or generated.
        """
        self.add(self.network(preprocess(clips.to(self.device), self.protocol)), real)
