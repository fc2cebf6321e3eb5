"""DDIM sampling of sequences of any length: at every step, overlapping windows are denoised and fused.

A frame is final once no later window covers it, so at most one window of predictions is buffered. The latents stay on
the CPU. They are the only memory that grows with the length.

Shapes: B samples, F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion.ddim import ddim_step, trailing_steps
from diffusion.schedules import NoiseSchedule
from diffusion.windows import fused_in_order

# (x_t (B, <=T, ...), (B,) steps, slice of the frames) -> x0 like x_t
PredictWindow = Callable[[Tensor, Tensor, slice], Tensor]


@torch.no_grad()
def sample_long(
    predict: PredictWindow,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    window: int,
    overlap: int,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Samples a sequence of any length from noise.

    Args:
        predict: Function that predicts the clean frames of one window. It moves them to its device; the result may stay
            there.
        noise: (B, F, ...) standard normal noise on the CPU. Overwritten with the result, to keep a single copy.
        schedule: Noise schedule of the denoiser's training.
        steps: Number of DDIM steps.
        window: T.
        overlap: Frames shared by neighbouring windows.
        progress: Callback with the number of frames that were denoised by a step; the numbers add up to steps * F.

    Returns:
        ``noise``, which now holds the clean sequence.
    """
    levels = trailing_steps(len(schedule), steps)
    for t, following in zip(levels, [*levels[1:], -1], strict=True):
        now, then = torch.full((len(noise),), t), torch.full((len(noise),), following)

        def denoise(x: Tensor, at: slice, now: Tensor = now) -> Tensor:
            return predict(x, now, at)

        for where, x0 in fused_in_order(denoise, noise, window, overlap):
            noise[:, where] = ddim_step(schedule, noise[:, where], x0, now, then)
            if progress is not None:
                progress(where.stop - where.start)
    return noise
