"""Scaling of a codec's latents for the U-Net.

Latents of Stable Video Diffusion's VAE are multiplied by its constant. The reference latent is not, as in the training
of SVD. Latents of other codecs, including the reference, are centred and divided per channel by

    d_c = s_c^w m^(1 - w)

with the deviations s_c of the training set and the ``whitening`` w. The constant m makes the mean variance 1, which the
noise schedule expects. With w = 1 every channel is standardised. A smaller w leaves large channels a larger share of
the loss, and the noise covers small ones first.

Shapes: C latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from datamodules.schema import LatentStatistics

FIXED_SCALE = ("svd",)  # codecs whose pretrained U-Net expects the codec's constant
CONSTANT = 1e-6  # deviation up to which a channel is constant


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


def latent_scale(codec: str, scale: float, statistics: LatentStatistics, whitening: float = 1.0) -> LatentScale:
    """Returns the scaling of a codec's latents.

    Args:
        codec: Name of the codec.
        scale: Scaling constant of the codec.
        statistics: Channel statistics of the training set's unscaled latents.
        whitening: Exponent w in [0, 1] of the channels' deviations; not for codecs with a constant.
    """
    channels = len(statistics.mean)
    if codec in FIXED_SCALE:
        return LatentScale((0.0,) * channels, (1 / scale,) * channels, raw_reference=True)
    varying = [std for std in statistics.std if std > CONSTANT]
    common = fmean(std ** (2 - 2 * whitening) for std in varying or [1.0]) ** 0.5  # m^(1 - w)
    # A constant channel is only centred.
    divisors = (std**whitening * common if std > CONSTANT else 1.0 for std in statistics.std)
    return LatentScale(statistics.mean, tuple(divisors))


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1)
