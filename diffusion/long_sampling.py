"""DDIM sampling of sequences of any length: at every step, overlapping windows are denoised and fused.

A frame is final once no later window covers it, so at most one window of predictions is buffered. The latents stay on
the CPU. They are the only memory that grows with the length.

Shapes: B samples, F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffusion.ddim import ddim_step, trailing_steps
from diffusion.schedules import NoiseSchedule
from diffusion.windows import triangular_weights, window_starts

# (x_t (B, <=T, ...), (B,) steps, slice of the frames) -> x0 like x_t
PredictWindow = Callable[[Tensor, Tensor, slice], Tensor]


def fused_in_order(
    apply: Callable[[Tensor, slice], Tensor], x: Tensor, window: int, overlap: int
) -> Iterator[tuple[slice, Tensor]]:
    """Streaming form of ``fuse_windows`` along dimension 1: yields frames as soon as they are final.

    The caller may overwrite ``x`` at yielded frames, since no later window reads them.

    Args:
        apply: Function of a window and its slice, see ``fuse_windows``.
        x: (B, F, ...) sequence.
        window: T.
        overlap: Frames shared by neighbouring windows.

    Yields:
        The slice of the final frames, and their (B, n, ...) result on the device of ``x``; in order, without gaps.
    """
    total = x.shape[1]
    starts = window_starts(total, window, overlap)
    if len(starts) == 1:
        yield slice(0, total), apply(x, slice(0, total)).to(x.device)
        return
    weights = triangular_weights(window).to(x.device).view(1, window, *[1] * (x.dim() - 2))
    waiting: Tensor | None = None
    covered = x.new_zeros(1, 0, *weights.shape[2:])
    for start, following in zip(starts, [*starts[1:], total], strict=True):
        result = apply(x[:, start : start + window], slice(start, start + window)).to(x.device) * weights
        kept = covered.shape[1]  # number of frames shared with earlier windows
        if waiting is not None and kept:
            result[:, :kept] += waiting
        weight = weights.to(result).clone()
        weight[:, :kept] += covered
        final = following - start
        yield slice(start, following), result[:, :final] / weight[:, :final]
        waiting, covered = result[:, final:].clone(), weight[:, final:].clone()


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
