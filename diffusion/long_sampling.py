"""DDIM on sequences of any length: windows are fused at every step, and each frame moves on as soon as it is final.

A window's frames are final once no later window covers them, so predictions of one window's length are all that waits.
The latents stay on the host, where they are the only thing that grows with the length.

Shapes: B samples, F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffusion.ddim import ddim_step, trailing_steps
from diffusion.schedules import NoiseSchedule
from diffusion.windows import triangular_weights, window_starts

# (x_t (B, <=T, ...), (B,) steps, where it lies) -> x0 like x_t
PredictWindow = Callable[[Tensor, Tensor, slice], Tensor]


def fused_in_order(
    apply: Callable[[Tensor, slice], Tensor], x: Tensor, window: int, overlap: int
) -> Iterator[tuple[slice, Tensor]]:
    """Fuses windows as ``fuse_windows`` does, frames along dimension 1, and gives frames as soon as they are final.

    ``x`` may be overwritten at the frames that were given: no later window reads them.

    Args:
        apply: see ``fuse_windows``.
        x: (B, F, ...).
        window: T.
        overlap: see ``window_starts``.

    Yields:
        Where the final frames lie, and their result (B, n, ...) on the device of ``x``; in order and without gaps.
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
        kept = covered.shape[1]  # frames of earlier windows that this one covers too
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
    """A clean sequence of any length from noise.

    Args:
        predict: clean sample of one window; moves it to the device and may leave the result there.
        noise: (B, F, ...) standard normal, on the host. It is overwritten: that is what keeps memory at one copy.
        schedule: the denoiser was trained with.
        steps: of DDIM.
        window: T, the length the denoiser was trained with.
        overlap: frames that neighbouring windows share.
        progress: is called with the number of frames that took a step; steps * F in all.

    Returns:
        ``noise``, now the clean sequence.
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
