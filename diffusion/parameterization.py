"""The velocity parameterisation (Salimans & Ho 2022), which is also that of Stable Video Diffusion's preconditioning.

With x_t = sqrt(a) x0 + sqrt(1 - a) noise and a = 1 / (1 + sigma^2):

    v  = sqrt(a) noise - sqrt(1 - a) x0          x0 = sqrt(a) x_t - sqrt(1 - a) v

SVD's denoiser D = c_skip x + c_out F is this formula with v = F, and its network is told 1/4 ln sigma, never the number
of a step.

Shapes: B samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.training import Weighting
from diffusion.schedules import NoiseSchedule

SIGMA_RANGE = (0.002, 700.0)  # that SVD was trained for; sigma is infinite where no signal is left
# (x_t, (B,) 1/4 ln sigma) -> v like x_t
Velocity = Callable[[Tensor, Tensor], Tensor]


def noise_input(level: Tensor) -> Tensor:
    """1/4 ln sigma of the signal share alpha bar: from -1.55 to 1.64. Float32, in the shape of ``level``."""
    wide = level.cpu().double() if level.device.type == "mps" else level.double()  # MPS has no float64
    sigma = ((1 - wide) / wide).sqrt().clamp(*SIGMA_RANGE)
    return (sigma.log() / 4).float().to(level.device)


def velocity(x0: Tensor, noise: Tensor, level: Tensor) -> Tensor:
    """V of clean samples and their noise; ``level`` is alpha bar, broadcast over them."""
    return level.sqrt() * noise - (1 - level).sqrt() * x0


def clean(x: Tensor, v: Tensor, level: Tensor) -> Tensor:
    """x0 of noisy samples and their velocity; ``level`` is alpha bar, broadcast over them."""
    return level.sqrt() * x - (1 - level).sqrt() * v


def signal_share(noise_input: Tensor, like: Tensor) -> Tensor:
    """Alpha bar of (B,) 1/4 ln sigma, float32, shaped to broadcast over ``like`` (B, ...)."""
    return torch.sigmoid(-8 * noise_input.float()).view(-1, *[1] * (like.dim() - 1))


def velocity_of_clean(x: Tensor, x0: Tensor, noise_input: Tensor) -> Tensor:
    """V of noisy samples that belong to predicted clean ones: (sqrt(a) x - x0) / sqrt(1 - a), float32.

    Args:
        x: (B, ...) noisy samples.
        x0: (B, ...) predicted clean samples.
        noise_input: (B,) 1/4 ln sigma.
    """
    level = signal_share(noise_input, x)
    return (level.sqrt() * x.float() - x0.float()) / (1 - level).sqrt()


@dataclass(frozen=True)
class VelocityDenoiser:
    """A v-network as a denoiser: clean sample from (B, ...) noisy samples and (B,) steps.

    Attributes:
        network: predicts v from noisy samples and 1/4 ln sigma.
        schedule: of the noise.
    """

    network: Velocity
    schedule: NoiseSchedule

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The clean sample (B, ...), float32 as the sampler's arithmetic should be."""
        level = self.schedule.level(t, x.float())
        v = self.network(x, noise_input(level.flatten()))
        return clean(x.float(), v.float(), level)


def loss_weight(level: Tensor, weighting: Weighting, gamma: float = 5.0) -> Tensor:
    """What multiplies the squared error of v, by signal share.

    * ``x0``: 1 - a, which makes it the squared error of x0 (Eq. 11); nearly clean samples count nearly nothing.
    * ``v``: 1, as SVD was trained.
    * ``min_snr``: min(1, gamma (1 - a)), that is min(SNR + 1, gamma) / (SNR + 1): Min-SNR (Hang et al. 2023) in the
      form that keeps the last step of a zero-terminal-SNR schedule.

    Args:
        level: alpha bar.
        weighting: one of the three.
        gamma: SNR beyond which samples count less.

    Raises:
        ValueError: for another weighting.
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
        predicted: (B, ...) v.
        x0: (B, ...) clean samples.
        noise: (B, ...) their noise.
        level: (B, 1, ...) alpha bar.
        weighting: see ``loss_weight``.
        gamma: see ``loss_weight``.

    Returns:
        (B,) losses.
    """
    level = level.float()
    error = (predicted.float() - velocity(x0.float(), noise.float(), level)).square().flatten(1).mean(1)
    return loss_weight(level.flatten(), weighting, gamma) * error


def stratified_steps(total: int, places: Tensor, size: int, seed: int) -> Tensor:
    """One diffusion step per place of a global batch, spread evenly over the schedule (Kingma et al. 2021, App. I.1).

    Every place alone is uniform; together they cover the schedule evenly, which calms the loss of small batches. Any
    rank computes its own places: the result depends on seed and place, not on how many ranks there are.

    Args:
        total: T.
        places: (B,) of the samples in the global batch, 0 to size - 1.
        size: of the global batch.
        seed: of the training step.

    Returns:
        (B,) int64 steps from 0 to T - 1, on the device of ``places``.
    """
    start = torch.rand((), generator=torch.Generator().manual_seed(seed), dtype=torch.float64).item()
    share = (start + places.double() / size) % 1
    return (share * total).long().clamp(max=total - 1)
