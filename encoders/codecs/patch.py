"""Lossless codec without a network: the pixels of each patch become the channels of one latent position.

Shapes: F frames, p patch side, C = 3 p^2 channels, h x w = H / p x W / p.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.codecs.arriving import ArrivingLatents
from encoders.codecs.pixels import check_frames, from_signed, to_signed
from encoders.protocols import Identity

CHUNK = 16  # frames per piece of ``decode_stream``


class PatchCodec:
    """``LatentCodec`` by space-to-depth of pixels in [-1, 1]; exact even if the latents are stored as float16.

    Args:
        patch: Side of a patch, pixels.

    Raises:
        ValueError: If ``patch`` is not positive.
    """

    scale = 1.0

    @staticmethod
    def announced(patch: int = 4) -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"channels": 3 * patch * patch, "downscale": patch}

    def __init__(self, patch: int = 4) -> None:
        if patch < 1:
            raise ValueError(f"encoders.codec.options.patch: must be at least 1, found {patch}")
        self.identity = Identity("patch", {"patch": patch})
        self.channels = 3 * patch * patch
        self.downscale = patch

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (F, 3, H, W) uint8 RGB to (F, 3 p^2, H / p, W / p) float32 in [-1, 1].

        Raises:
            ValueError: If the frames have another shape or type, or ``patch`` does not divide H and W.
        """
        check_frames(frames, self.downscale)
        return F.pixel_unshuffle(to_signed(frames), self.downscale)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, 3 p^2, h, w) to (F, 3, H, W) uint8 RGB."""
        return from_signed(F.pixel_shuffle(latents.float(), self.downscale))

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` in pieces, see ``LatentCodec.decode_stream``."""
        yield from map(self.decode, ArrivingLatents(latents).parts(total, min(CHUNK, at_once or CHUNK)))
