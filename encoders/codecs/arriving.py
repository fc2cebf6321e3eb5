"""Latents that arrive while they are decoded.

Shapes: F frames, C x h x w latent of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


class ArrivingLatents:
    """Ranges of frames from pieces of a clip. Pieces are asked for when they are needed, and dropped once used.

    Args:
        pieces: (n, C, h, w) latents of consecutive frames.
    """

    def __init__(self, pieces: Iterable[Tensor]) -> None:
        self._pieces = iter(pieces)
        self._first = 0  # frame of the clip with which the held latents begin
        self._held = next(self._pieces)

    @property
    def frame(self) -> Tensor:
        """(C, h, w) latent of the first frame that is held, for its shape."""
        return self._held[0]

    def parts(self, total: int, size: int) -> Iterator[Tensor]:
        """Yields the latents of ``total`` frames, (size, C, h, w) at a time; the last part may be shorter.

        Used by ``map``, a part is freed once it is decoded; a loop's variable would keep it until the next arrives.
        """
        for start in range(0, total, size):
            yield self.take(start, min(start + size, total))

    def take(self, start: int, stop: int) -> Tensor:
        """(stop - start, C, h, w) latents of a range. Later ranges may not start before ``start``."""
        while self._first + len(self._held) < stop:
            kept = self._held[max(0, start - self._first) :]
            self._first += len(self._held) - len(kept)
            self._held = torch.cat([kept, next(self._pieces)])
        return self._held[start - self._first : stop - self._first]
