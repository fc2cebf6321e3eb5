"""Noise schedules of variance-preserving diffusion: x_t = sqrt(a_t) x0 + sqrt(1 - a_t) noise, a_t = alpha bar.

Shapes: B samples, T diffusion steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """Noise schedule.

    Attributes:
        alpha_bar: (T,) float64, strictly decreasing, in [0, 1).
    """

    alpha_bar: Tensor

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def level(self, t: Tensor, like: Tensor) -> Tensor:
        """Alpha bar at (B,) steps, with the type and device of ``like`` (B, ...) and a shape that broadcasts over it.

        Step -1 is the clean sample, where alpha bar is 1.
        """
        padded = torch.cat([self.alpha_bar, self.alpha_bar.new_ones(1)])  # index -1
        return padded[t.cpu()].to(like).view(-1, *[1] * (like.dim() - 1))

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Noisy samples x_t from (B, ...) clean samples and standard normal noise at (B,) steps."""
        level = self.level(t, x0)
        return level.sqrt() * x0 + (1 - level).sqrt() * noise


def cosine_schedule(steps: int = 1000, offset: float = 0.008) -> NoiseSchedule:
    """Cosine schedule a_t ~ cos^2((t/T + s) / (1 + s) * pi/2), betas <= 0.999 (Nichol & Dhariwal 2021, Eq. 17).

    Args:
        steps: Number of steps T.
        offset: Offset s.
    """
    ends = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.cos((ends + offset) / (1 + offset) * math.pi / 2).square()
    betas = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
    return NoiseSchedule(torch.cumprod(1 - betas, 0))


def zero_terminal_schedule(
    steps: int = 1000, first: float = 0.00085, last: float = 0.012, shift: float = 1.0
) -> NoiseSchedule:
    """Stable Diffusion's schedule (betas linear in their square root), rescaled to zero terminal SNR.

    Without rescaling alpha bar is 0.0047 at the last step, so training never uses the pure noise that sampling starts
    from. Lin et al. 2024, Algorithm 1: sqrt(alpha bar) is shifted to end at 0 and scaled to keep its first value.

    Args:
        steps: Number of steps T, at least 2.
        first: Beta of the first step.
        last: Beta of the last step.
        shift: Factor of every sigma (Hoogeboom et al. 2023, "Simple diffusion", section 3.1). Redundant latents, e.g.
            pixels, need more noise than those of SVD to lose the same information.
    """
    betas = torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()
    root = torch.cumprod(1 - betas, 0).sqrt()
    shifted = (root - root[-1]) * root[0] / (root[0] - root[-1])
    level = shifted.square()
    return NoiseSchedule(level / (level + shift**2 * (1 - level)))
