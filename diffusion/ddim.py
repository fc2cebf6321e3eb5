"""DDIM (Song et al. 2021) without added noise, for a denoiser that predicts the clean sample.

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
    """``count`` diffusion steps from T - 1 downwards, evenly spaced and ending at the noisiest (Lin et al. 2024).

    Raises:
        ValueError: unless 1 <= count <= total.
    """
    if not 1 <= count <= total:
        raise ValueError(f"DDIM steps: {count}, expected between 1 and the schedule's {total}")
    return [round(total - i * total / count) - 1 for i in range(count)]


def ddim_step(schedule: NoiseSchedule, x: Tensor, x0: Tensor, t: Tensor, following: Tensor) -> Tensor:
    """From x_t to the sample at an earlier step, along the noise that ``x0`` leaves in ``x``.

    Args:
        schedule: of the noise.
        x: (B, ...) at step ``t``.
        x0: (B, ...) predicted clean sample.
        t: (B,) steps.
        following: (B,) steps to go to; -1 is the clean sample.
    """
    level, next_level = schedule.level(t, x), schedule.level(following, x)
    noise = (x - level.sqrt() * x0) / (1 - level).sqrt()
    return next_level.sqrt() * x0 + (1 - next_level).sqrt() * noise


@torch.no_grad()
def ddim_sample(predict: PredictClean, noise: Tensor, schedule: NoiseSchedule, count: int) -> Tensor:
    """A clean sample from noise, in ``count`` steps.

    Args:
        predict: clean sample from x_t and (B,) steps.
        noise: (B, ...) standard normal; it alone decides which sample comes out.
        schedule: the denoiser was trained with.
        count: steps.

    Returns:
        (B, ...) like ``noise``.
    """
    steps = trailing_steps(len(schedule), count)
    x = noise
    for t, following in zip(steps, [*steps[1:], -1], strict=True):
        now = torch.full((len(x),), t, device=x.device)
        x = ddim_step(schedule, x, predict(x, now), now, torch.full_like(now, following))
    return x


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise that depends on its shape and seed alone, drawn on the CPU, float32."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
