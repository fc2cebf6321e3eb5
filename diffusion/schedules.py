"""Noise schedules of a variance-preserving diffusion: x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise, a_t = alpha bar.

Shapes: B samples, T diffusion steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """The signal share that is left at every diffusion step.

    Attributes:
        alpha_bar: (T,) float64, falling, in [0, 1).
    """

    alpha_bar: Tensor

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def level(self, t: Tensor, like: Tensor) -> Tensor:
        """The signal share at (B,) steps, shaped to broadcast over ``like`` (B, ...), in its dtype and on its device.

        Step -1 is the clean sample: 1.
        """
        padded = torch.cat([self.alpha_bar, self.alpha_bar.new_ones(1)])  # index -1 is the 1
        return padded[t.cpu()].to(like).view(-1, *[1] * (like.dim() - 1))

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of clean (B, ...) samples and standard normal noise at (B,) steps."""
        level = self.level(t, x0)
        return level.sqrt() * x0 + (1 - level).sqrt() * noise


def cosine_schedule(steps: int = 1000, offset: float = 0.008) -> NoiseSchedule:
    """The cosine schedule of Nichol & Dhariwal 2021, Eq. 17: a_t ~ cos^2((t/T + s) / (1 + s) * pi/2), betas <= 0.999.

    Args:
        steps: T.
        offset: s.
    """
    ends = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((ends + offset) / (1 + offset) * math.pi / 2).square()
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return NoiseSchedule(torch.cumprod(1 - betas, 0))


def zero_terminal_schedule(
    steps: int = 1000, first: float = 0.00085, last: float = 0.012, shift: float = 1.0
) -> NoiseSchedule:
    """SVD's betas, linear in their square root, rescaled so that nothing of the signal is left at the last step.

    Plain, the last step keeps alpha bar 0.0047: a network trained on it starts sampling from noise it has never seen.
    The rescaling is that of Lin et al. 2024, Algorithm 1: sqrt(alpha bar) is shifted to end at 0 and scaled to keep its
    first value.

    Args:
        steps: T, at least 2.
        first: beta of the first step.
        last: beta of the last step.
        shift: every sigma is multiplied by it (Hoogeboom et al. 2023, "Simple diffusion", section 3.1). Latents with
            much redundancy, as pixels have, show through noise that hides SVD's.
    """
    betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
    root = torch.cumprod(1 - betas, 0).sqrt()
    shifted = (root - root[-1]) * root[0] / (root[0] - root[-1])
    level = shifted.square()
    return NoiseSchedule(level / (level + shift**2 * (1 - level)))
