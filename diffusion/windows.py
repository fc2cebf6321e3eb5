"""Overlapped windows: apply a network of limited length to a sequence of any length.

Windows are processed independently and their results averaged with triangular weights, which avoids visible seams.
Fusing the predictions in every sampling step keeps all windows on one trajectory.

Shapes: F frames of the sequence, T frames of a window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

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


def fused_in_order(
    apply: Callable[[Tensor, slice], Tensor], x: Tensor, window: int, overlap: int
) -> Iterator[tuple[slice, Tensor]]:
    """Applies a function to every window and averages the results where windows overlap, along dimension 1.

    Yields frames as soon as they are final, so that memory stays bounded.

    The caller may overwrite ``x`` at yielded frames, since no later window reads them.

    Args:
        apply: Function of a window of ``x`` and its slice of frames. It must keep the frames along dimension 1.
        x: (B, F, ...) sequence.
        window: T; a shorter sequence is a single window, whose result is unchanged.
        overlap: Frames shared by neighbouring windows, see ``window_starts``.

    Yields:
        The slice of the final frames, and their (B, n, ...) result on the device of ``x``; in order, without gaps.
    """
    total = x.shape[1]
    starts = window_starts(total, window, overlap)
    if len(starts) == 1:
        yield slice(0, total), apply(x, slice(0, total)).to(x.device)
        return
    weights = triangular_weights(window).to(x.device).view(1, window, *[1] * (x.dim() - 2))
    fusion = _Fusion(weights)
    for start, following in zip(starts, [*starts[1:], total], strict=True):
        where = slice(start, start + window)
        # Without a name for the result, which would be held until the next window.
        yield slice(start, following), fusion.add(apply(x[:, where], where).to(x.device) * weights, following - start)


class _Fusion:
    """Weighted mean of windows, added in order. Keeps the sums of the frames that the next window shares.

    Args:
        weights: (1, T, 1, ...) weights of a window's frames.
    """

    def __init__(self, weights: Tensor) -> None:
        self._weights = weights
        self._waiting: Tensor | None = None
        self._covered = weights[:, :0]

    def add(self, result: Tensor, final: int) -> Tensor:
        """Adds the weighted (B, T, ...) result of the next window; returns the mean of its first ``final`` frames."""
        kept = self._covered.shape[1]  # number of frames shared with earlier windows
        if self._waiting is not None and kept:
            result[:, :kept] += self._waiting
        weight = self._weights.to(result).clone()
        weight[:, :kept] += self._covered
        self._waiting, self._covered = result[:, final:].clone(), weight[:, final:].clone()
        return result[:, :final] / weight[:, :final]


def fuse_windows(apply: Callable[[Tensor, slice], Tensor], x: Tensor, window: int, overlap: int) -> Tensor:
    """Returns the (B, F, ...) result of ``fused_in_order`` for the whole sequence."""
    return torch.cat([part for _, part in fused_in_order(apply, x, window, overlap)], 1)
