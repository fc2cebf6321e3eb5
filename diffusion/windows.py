"""Overlapped windows: apply a network of limited length to a sequence of any length.

Windows are processed independently and their results averaged with triangular weights, which avoids visible seams.
Fusing the predictions in every sampling step keeps all windows on one trajectory.

Shapes: F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def triangular_weights(length: int) -> Tensor:
    """(T,) float32 weights min((j + 1/2) 2/T, 2 - (j + 1/2) 2/T): 1/T at the edges, about 1 in the middle."""
    place = (torch.arange(length) + 0.5) * 2 / length
    return torch.minimum(place, 2 - place)


def window_starts(total: int, window: int, overlap: int) -> list[int]:
    """First frames of the windows that cover ``total`` frames. The last window ends with the sequence.

    Args:
        total: F.
        window: T.
        overlap: Minimum number of frames shared by neighbouring windows.

    Raises:
        ValueError: Unless 0 <= overlap < window and total >= 1.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"overlap {overlap}: expected at least 0 and less than the window of {window} frames")
    if total < 1:
        raise ValueError(f"total {total}: expected a sequence of at least 1 frame")
    if total <= window:
        return [0]
    return [*range(0, total - window, window - overlap), total - window]


def fuse_windows(
    apply: Callable[[Tensor, slice], Tensor], x: Tensor, window: int, overlap: int, dim: int = 1
) -> Tensor:
    """Applies a function to every window and averages the results where windows overlap.

    Args:
        apply: Function of a window of ``x`` and its slice of frames. It must keep the frames along ``dim``.
        x: Sequence of F frames along ``dim``.
        window: T; a shorter sequence is a single window.
        overlap: Frames shared by neighbouring windows, see ``window_starts``.
        dim: Dimension of the frames.

    Returns:
        The fused result on the device of ``x``; for a single window, its unchanged result.
    """
    total = x.shape[dim]
    starts = window_starts(total, window, overlap)
    if len(starts) == 1:
        return apply(x, slice(0, total)).to(x.device)
    shape = [1] * x.dim()
    shape[dim] = window
    weights = triangular_weights(window).to(x).view(shape)
    fused, covered = None, x.new_zeros([total if i == dim else 1 for i in range(x.dim())])
    for start in starts:
        result = apply(x.narrow(dim, start, window), slice(start, start + window)).to(x.device)
        if fused is None:
            fused = result.new_zeros([total if i == dim else size for i, size in enumerate(result.shape)])
        fused.narrow(dim, start, window).add_(result * weights)
        covered.narrow(dim, start, window).add_(weights)
    assert fused is not None
    return fused / covered
