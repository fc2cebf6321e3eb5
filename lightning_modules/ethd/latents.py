"""Scaling of a codec's latents for the U-Net.

Latents of Stable Video Diffusion's VAE are multiplied by its constant. The reference latent is not, as in the training
of SVD. Latents of other codecs, including the reference, are standardised per channel with the statistics of the
training set, because the noise schedule expects a variance near 1.

Shapes: C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.schema import LatentStatistics

FIXED_SCALE = ("svd",)  # codecs whose pretrained U-Net expects the codec's constant


@dataclass(frozen=True)
class LatentScale:
    """Affine map (latent - mean) / std of each channel.

    Attributes:
        mean: C means.
        std: C standard deviations.
        raw_reference: Whether the reference latent is left unscaled.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    raw_reference: bool = False

    def scaled(self, latent: Tensor) -> Tensor:
        """(..., C, h, w) in the codec's units, any float type -> the same shape in the U-Net's units, float32."""
        return (latent.float() - _channels(self.mean, latent)) / _channels(self.std, latent)

    def restored(self, latent: Tensor) -> Tensor:
        """(..., C, h, w) in the U-Net's units -> the same shape in the codec's units, float32."""
        return latent.float() * _channels(self.std, latent) + _channels(self.mean, latent)

    def reference(self, latent: Tensor) -> Tensor:
        """(B, C, h, w) reference latent in the codec's units -> the U-Net's conditioning input, float32."""
        return latent.float() if self.raw_reference else self.scaled(latent)


def latent_scale(codec: str, scale: float, statistics: LatentStatistics) -> LatentScale:
    """Returns the scaling of a codec's latents.

    Args:
        codec: Name of the codec.
        scale: Scaling constant of the codec.
        statistics: Channel statistics of the training set's unscaled latents.
    """
    channels = len(statistics.mean)
    if codec in FIXED_SCALE:
        return LatentScale((0.0,) * channels, (1 / scale,) * channels, raw_reference=True)
    # A constant channel is only centred.
    return LatentScale(statistics.mean, tuple(std if std > 1e-6 else 1.0 for std in statistics.std))


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)
