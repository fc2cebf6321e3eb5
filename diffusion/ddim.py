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

# (x_t, t) -> x0 like x_t
PredictClean = Callable[[Tensor, int], Tensor]


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
    return _moved(x, x0, (level.sqrt(), (1 - level).sqrt()), (next_level.sqrt(), (1 - next_level).sqrt()))


def _moved(x: Tensor, x0: Tensor, now: tuple[Tensor, Tensor], then: tuple[Tensor, Tensor]) -> Tensor:
    """Denoises by the factors of signal and noise of two steps."""
    noise = (x - now[0] * x0) / now[1]
    return then[0] * x0 + then[1] * noise


@torch.no_grad()
def ddim_sample(predict: PredictClean, noise: Tensor, schedule: NoiseSchedule, count: int) -> Tensor:
    """Samples from noise. The factors of all steps are computed on the CPU before the first: no step waits for them.

    Args:
        predict: Function that predicts the clean sample from x_t and its diffusion step.
        noise: (B, ...) standard normal noise. It determines the sample.
        schedule: Noise schedule of the denoiser's training.
        count: Number of steps.

    Returns:
        (B, ...) clean samples.
    """
    steps = trailing_steps(len(schedule), count)
    x = noise
    levels = schedule.level(torch.tensor([*steps, -1]), torch.empty(0, dtype=x.dtype))
    factors = list(zip(levels.sqrt(), (1 - levels).sqrt(), strict=True))
    for t, now, then in zip(steps, factors, factors[1:], strict=False):
        x = _moved(x, predict(x, t), now, then)
    return x


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Float32 standard normal noise that depends only on shape and seed; generated on the CPU."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
