"""From a codec's latents to the numbers the U-Net sees, and back.

Stable Video Diffusion's latents are multiplied by its own constant, and the reference beside them is not, as it was
trained; no statistics of a dataset touch them. Other codecs' latents, reference included, are standardised channel by
channel with the training set's statistics, since the noise schedule expects a variance near 1.

Shapes: C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.schema import LatentStatistics

FIXED_SCALE = ("svd",)  # codecs whose diffusion weights expect their own constant


@dataclass(frozen=True)
class LatentScale:
    """An affine map of each channel.

    Attributes:
        mean: C numbers that become 0.
        std: C numbers that become 1.
        raw_reference: the reference latent goes in as the codec made it.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    raw_reference: bool = False

    def scaled(self, latent: Tensor) -> Tensor:
        """(..., C, h, w) of the codec, any float -> the same shape as the U-Net denoises it, float32."""
        return (latent.float() - _channels(self.mean, latent)) / _channels(self.std, latent)

    def restored(self, latent: Tensor) -> Tensor:
        """(..., C, h, w) as the U-Net denoises it -> the codec's, float32."""
        return latent.float() * _channels(self.std, latent) + _channels(self.mean, latent)

    def reference(self, latent: Tensor) -> Tensor:
        """(B, C, h, w) of the codec -> as the U-Net sees it beside the noisy latents, float32."""
        return latent.float() if self.raw_reference else self.scaled(latent)


def latent_scale(codec: str, scale: float, statistics: LatentStatistics) -> LatentScale:
    """How the latents of a codec are scaled.

    Args:
        codec: its name.
        scale: its own constant.
        statistics: of the training set's unscaled latents.
    """
    channels = len(statistics.mean)
    if codec in FIXED_SCALE:
        return LatentScale((0.0,) * channels, (1 / scale,) * channels, raw_reference=True)
    # A channel that never changes is left at its size.
    return LatentScale(statistics.mean, tuple(std if std > 1e-6 else 1.0 for std in statistics.std))


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)
