"""Deterministic DDIM sampling (Song et al. 2021, eta = 0) with a denoiser that predicts the clean sample.

    noise = (x_t - sqrt(a_t) x0) / sqrt(1 - a_t)
    x_s = sqrt(a_s) x0 + sqrt(1 - a_s) noise

Shapes: B samples, T diffusion steps.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion.schedules import NoiseSchedule

# (x_t, t (B,)) -> x0 like x_t
PredictClean = Callable[[Tensor, Tensor], Tensor]


def trailing_steps(total: int, count: int) -> list[int]:
    """Evenly spaced diffusion steps in descending order, starting at the noisiest, T - 1 (Lin et al. 2024).

    Args:
        total: T.
        count: Number of steps.

    Raises:
        ValueError: Unless 1 <= count <= total.
    """
    if not 1 <= count <= total:
        raise ValueError(f"DDIM steps: {count}, expected 1 to {total}, the length of the schedule")
    return [round(total - i * total / count) - 1 for i in range(count)]


def ddim_step(schedule: NoiseSchedule, x: Tensor, x0: Tensor, t: Tensor, following: Tensor) -> Tensor:
    """Denoises samples from step ``t`` to step ``following``.

    Args:
        schedule: Noise schedule.
        x: (B, ...) noisy samples at step ``t``.
        x0: (B, ...) predicted clean samples.
        t: (B,) current steps.
        following: (B,) target steps; -1 for the clean sample.

    Returns:
        (B, ...) samples at step ``following``.
    """
    level, next_level = schedule.level(t, x), schedule.level(following, x)
    noise = (x - level.sqrt() * x0) / (1 - level).sqrt()
    return next_level.sqrt() * x0 + (1 - next_level).sqrt() * noise


@torch.no_grad()
def ddim_sample(predict: PredictClean, noise: Tensor, schedule: NoiseSchedule, count: int) -> Tensor:
    """Samples from noise.

    Args:
        predict: Function that predicts the clean sample from x_t and (B,) steps.
        noise: (B, ...) standard normal noise. It determines the sample.
        schedule: Noise schedule of the denoiser's training.
        count: Number of steps.

    Returns:
        (B, ...) clean samples.
    """
    steps = trailing_steps(len(schedule), count)
    x = noise
    for t, following in zip(steps, [*steps[1:], -1], strict=True):
        now = torch.full((len(x),), t, device=x.device)
        x = ddim_step(schedule, x, predict(x, now), now, torch.full_like(now, following))
    return x


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Float32 standard normal noise that depends only on shape and seed; generated on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
