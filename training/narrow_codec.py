"""A codec without weights for the latents of any codec, with which rehearsals decode sample videos.

Shapes: F frames, C latent channels, d = H / h ratio of the shards' codec.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.schema import Index
from encoders.codecs.pixels import from_signed
from encoders.protocols import Identity


class NarrowCodec:
    """Shows the first three channels of latents as red, green and blue. It only decodes.

    Args:
        identity: Identity of the codec that made the latents.
        channels: C.
        downscale: d.
        scale: Factor from stored latents to those of the diffusion model.
    """

    def __init__(self, identity: Identity, channels: int, downscale: int, scale: float) -> None:
        self.identity, self.channels, self.downscale, self.scale = identity, channels, downscale, scale

    def encode(self, frames: Tensor) -> Tensor:
        """Not supported.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("a rehearsal encodes no frames")

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, C, h, w) to (F, 3, d h, d w) uint8 RGB."""
        shown = latents.float().cpu()[:, [min(place, self.channels - 1) for place in range(3)]]
        return from_signed(F.interpolate(torch.tanh(shown), scale_factor=self.downscale))

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` in the pieces in which they arrive."""
        return map(self.decode, latents)


def narrow_codec(index: Index) -> NarrowCodec:
    """The narrow codec for the latents of shards."""
    dimensions = index.dimensions
    downscale = max(1, index.frame_size // dimensions.latent_size)
    return NarrowCodec(index.encoders["codec"], dimensions.latent_channels, downscale, index.codec_scale)
