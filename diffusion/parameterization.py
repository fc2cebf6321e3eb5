"""Velocity parameterisation (Salimans & Ho 2022), equal to the preconditioning of Stable Video Diffusion.

With x_t = sqrt(a) x0 + sqrt(1 - a) noise and a = 1 / (1 + sigma^2):

    v  = sqrt(a) noise - sqrt(1 - a) x0          x0 = sqrt(a) x_t - sqrt(1 - a) v

SVD's denoiser D = c_skip x + c_out F is this formula with v = F. Its network is conditioned on 1/4 ln sigma, not on the
step index.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.models import Weighting
from diffusion.schedules import NoiseSchedule

SIGMA_RANGE = (0.002, 700.0)  # range of SVD's training; without any signal sigma would be infinite
# (x_t, (B,) 1/4 ln sigma) -> v like x_t
Velocity = Callable[[Tensor, Tensor], Tensor]


def noise_input(level: Tensor) -> Tensor:
    """Alpha bar of any shape -> 1/4 ln sigma in [-1.55, 1.64], float32 of the same shape."""
    wide = level.cpu().double() if level.device.type == "mps" else level.double()  # MPS has no float64
    sigma = ((1 - wide) / wide).sqrt().clamp(*SIGMA_RANGE)
    return (sigma.log() / 4).float().to(level.device)


def velocity(x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """Velocity v of clean samples and noise; ``level`` is alpha bar and broadcasts over them."""
    return level.sqrt() * noise - (1 - level).sqrt() * x0


def clean(x: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """Clean samples x0 from noisy samples and velocity; ``level`` is alpha bar and broadcasts over them."""
    return level.sqrt() * x - (1 - level).sqrt() * v


def signal_share(noise_input: Tensor, like: Tensor) -> Tensor:
    """(B,) 1/4 ln sigma -> float32 alpha bar that broadcasts over ``like`` (B, ...)."""
    return torch.sigmoid(-8 * noise_input.float()).view(-1, *[1] * (like.dim() - 1))


def velocity_of_clean(x: Tensor, x0: Tensor, noise_input: Tensor) -> Tensor:
    """Velocity from noisy and predicted clean samples: (sqrt(a) x - x0) / sqrt(1 - a), float32.

    Args:
        x: (B, ...) noisy samples.
        x0: (B, ...) predicted clean samples.
        noise_input: (B,) 1/4 ln sigma.
    """
    level = signal_share(noise_input, x)
    return (level.sqrt() * x.float() - x0.float()) / (1 - level).sqrt()


@dataclass(frozen=True)
class VelocityDenoiser:
    """Turns a velocity network into a denoiser that predicts clean samples.

    Attributes:
        network: Function that predicts v from noisy samples and 1/4 ln sigma.
        schedule: Noise schedule.
    """

    network: Velocity
    schedule: NoiseSchedule

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, ...) noisy samples and (B,) steps -> (B, ...) float32 clean samples."""
        level = self.schedule.level(t, x.float())
        v = self.network(x, noise_input(level.flatten()))
        return clean(x.float(), v.float(), level)


def loss_weight(level: Tensor, weighting: Weighting, gamma: float = 5.0) -> Tensor:
    """Weight of the squared error of v at a noise level.

    * ``x0``: 1 - a, which gives the squared error of x0 (EmotiveTalk Eq. 11). Its weight of nearly clean samples is
      near 0.
    * ``v``: 1, as in the training of SVD.
    * ``min_snr``: min(1, gamma (1 - a)) = min(SNR + 1, gamma) / (SNR + 1): Min-SNR (Hang et al. 2023) in the form that
      is not zero at the last step of a zero-terminal-SNR schedule.

    Args:
        level: Alpha bar.
        weighting: ``x0``, ``v`` or ``min_snr``.
        gamma: SNR above which ``min_snr`` reduces the weight.

    Raises:
        ValueError: If ``weighting`` is unknown.
    """
    if weighting == "x0":
        return 1 - level
    if weighting == "v":
        return torch.ones_like(level)
    if weighting == "min_snr":
        return (gamma * (1 - level)).clamp(max=1)
    raise ValueError(f"loss {weighting!r}: expected x0, v or min_snr")


def velocity_loss(
    predicted: Tensor, x0: Tensor, noise: Tensor, level: Tensor, weighting: Weighting = "x0", gamma: float = 5.0
) -> Tensor:
    """Weighted mean squared error of the velocity, per sample and in float32.

    Args:
        predicted: (B, ...) predicted velocity.
        x0: (B, ...) clean samples.
        noise: (B, ...) noise.
        level: (B, 1, ...) alpha bar.
        weighting: Weighting of ``loss_weight``.
        gamma: Parameter of the Min-SNR weighting.

    Returns:
        (B,) losses.
    """
    level = level.float()
    error = (predicted.float() - velocity(x0.float(), noise.float(), level)).square().flatten(1).mean(1)
    return loss_weight(level.flatten(), weighting, gamma) * error


def stratified_steps(total: int, places: Tensor, size: int, seed: int) -> Tensor:
    """Low-discrepancy diffusion steps for a global batch (Kingma et al. 2021, App. I.1).

    The step of each sample is uniform; together they cover the schedule evenly, which lowers the variance of the loss
    of small batches. The result depends only on seed and index, so every rank computes its share independently.

    Args:
        total: T.
        places: (B,) indices of the samples in the global batch, 0 to size - 1.
        size: Size of the global batch.
        seed: Seed of the training step.

    Returns:
        (B,) int64 steps from 0 to T - 1, on the device of ``places``.
    """
    start = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).item()
    share = (start + places.double() / size) % 1
    return (share * total).long().clamp(max=total - 1)
