"""DDIM sampling of sequences of any length: at every step, overlapping windows are denoised and fused.

Step s of a window needs the frames of that window after step s - 1, and nothing else. The windows of all steps are
therefore denoised in an order in which the first frames are final early: after n (n + 1) / 2 windows for n steps,
where a window overlaps at most half of the next one. The result does not depend on the order, to the bit.

The latents stay on the CPU. They are the only memory that grows with the length. Each step keeps in addition the sums
of the frames that its next window shares.

Shapes: B samples, F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from diffusion.ddim import ddim_step, trailing_steps
from diffusion.schedules import NoiseSchedule
from diffusion.windows import fused_in_order, window_starts

# (x_t (B, <=T, ...), (B,) steps, slice of the frames) -> x0 like x_t
PredictWindow = Callable[[Tensor, Tensor, slice], Tensor]


@torch.no_grad()
def sample_in_order(
    predict: PredictWindow,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    window: int,
    overlap: int,
) -> Iterator[slice]:
    """Samples a sequence of any length from noise; its frames become final in order.

    Args:
        predict: Function that predicts the clean frames of one window. It moves them to its device; the result may stay
            there.
        noise: (B, F, ...) standard normal noise on the CPU. Overwritten with the result, to keep a single copy.
        schedule: Noise schedule of the denoiser's training.
        steps: Number of DDIM steps.
        window: T.
        overlap: Frames shared by neighbouring windows.

    Yields:
        Slices of frames that ``noise`` now holds clean; in order, without gaps. The caller may change these frames.

    Raises:
        ValueError: Unless 0 <= overlap < window, F >= 1 and 1 <= steps <= T of the schedule.
    """
    levels, batch = trailing_steps(len(schedule), steps), len(noise)
    starts = window_starts(noise.shape[1], window, overlap)
    moves = [
        (torch.full((batch,), now), torch.full((batch,), then))
        for now, then in zip(levels, [*levels[1:], -1], strict=True)
    ]

    def denoise(now: Tensor, x: Tensor, at: slice) -> Tensor:
        return predict(x, now, at)

    fused = [fused_in_order(partial(denoise, now), noise, window, overlap) for now, _ in moves]
    windows, final = [0] * steps, [0] * steps  # of each step: windows done, frames that will not change in it
    last = step = steps - 1
    while final[last] < noise.shape[1]:
        needed = min(starts[windows[step]] + window, noise.shape[1])
        if step and final[step - 1] < needed:
            step -= 1
            continue
        where, x0 = next(fused[step])
        noise[:, where] = ddim_step(schedule, noise[:, where], x0, *moves[step])
        del x0
        windows[step] += 1
        final[step] = where.stop
        if step == last:
            yield where
        else:
            step += 1


def sample_long(
    predict: PredictWindow,
    noise: Tensor,
    schedule: NoiseSchedule,
    steps: int,
    window: int,
    overlap: int,
) -> Tensor:
    """Samples a whole sequence with the arguments of ``sample_in_order``; returns ``noise``, which is now clean."""
    for _ in sample_in_order(predict, noise, schedule, steps, window, overlap):
        pass
    return noise
