"""Codec without a network: the low frequencies of each patch become the channels of one latent position.

The discrete cosine transform (DCT-II) of the luma Y and of the colour differences Cb, Cr (BT.601) of a p x p patch f:

    c(u, v) = sum_xy f(x, y) b_u(x) b_v(y)        b_u(x) = sqrt((1 + [u > 0]) / p) cos(pi u (2 x + 1) / 2 p)

Coefficients with the smallest u + v are kept, as in JPEG, more of Y than of Cb and Cr. ETHD scales each channel by its
deviation, so that errors are small where pictures have little: those of a narrow network look like the pictures. Among
the pixels of ``PatchCodec`` they are white, and faces are speckled.

Shapes: F frames, p patch side, C = luma + 2 chroma channels, h x w = H / p x W / p.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from torch.nn import functional as F

from encoders.codecs.arriving import ArrivingLatents
from encoders.codecs.pixels import check_frames, from_signed, to_signed
from encoders.protocols import Identity

CHUNK = 16  # frames per piece of ``decode_stream``
# BT.601: RGB -> Y, Cb, Cr
COLOURS = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]).double()


class DCTCodec:
    """``LatentCodec`` of the low frequencies of patches of pixels in [-1, 1]; with all frequencies it is lossless.

    Args:
        patch: Side of a patch, pixels.
        luma: Coefficients of Y that are kept.
        chroma: Coefficients of Cb, and as many of Cr, that are kept.

    Raises:
        ValueError: If an option is out of range.
    """

    scale = 1.0

    @staticmethod
    def announced(patch: int = 4, luma: int = 13, chroma: int = 3) -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"channels": luma + 2 * chroma, "downscale": patch}

    def __init__(self, patch: int = 4, luma: int = 13, chroma: int = 3) -> None:
        if patch < 1:
            raise ValueError(f"encoders.codec.options.patch: must be at least 1, found {patch}")
        for name, kept in (("luma", luma), ("chroma", chroma)):
            if not 1 <= kept <= patch * patch:
                raise ValueError(
                    f"encoders.codec.options.{name}: expected 1 to {patch * patch}, the pixels of a patch of side "
                    f"{patch}, found {kept}"
                )
        self.identity = Identity("dct", {"patch": patch, "luma": luma, "chroma": chroma})
        self.channels, self.downscale = luma + 2 * chroma, patch
        counts = (luma, chroma, chroma)
        self._encode, self._decode = (
            filters(patch, COLOURS, counts),
            filters(patch, torch.linalg.inv(COLOURS).T, counts),
        )

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (F, 3, H, W) uint8 RGB to (F, C, H / p, W / p) float32 in [-2 p, 2 p].

        Raises:
            ValueError: If the frames have another shape or type, or ``patch`` does not divide H and W.
        """
        check_frames(frames, self.downscale)
        return F.conv2d(to_signed(frames), self._encode.to(frames.device), stride=self.downscale)

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, C, h, w) to (F, 3, H, W) uint8 RGB."""
        weight = self._decode.to(latents.device)
        return from_signed(F.conv_transpose2d(latents.float(), weight, stride=self.downscale))

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` in pieces, see ``LatentCodec.decode_stream``."""
        yield from map(self.decode, ArrivingLatents(latents).parts(total, min(CHUNK, at_once or CHUNK)))


def filters(side: int, colours: Tensor, counts: Sequence[int]) -> Tensor:
    """(C, 3, p, p) float32: for each of three (3,) colours, the first ``counts`` pictures of ``dct_basis`` in it."""
    basis = dct_basis(side)
    planes = zip(colours, counts, strict=True)
    return torch.cat([torch.einsum("c,nyx->ncyx", colour, basis[:count]) for colour, count in planes]).float()


def dct_basis(side: int) -> Tensor:
    """(p^2, p, p) float64 orthonormal pictures c(u, v) of a patch of ``side`` pixels, the smallest u + v first."""
    waves = torch.from_numpy(dct(np.eye(side), axis=0, norm="ortho"))  # (u, x)
    pairs = sorted(((u, v) for u in range(side) for v in range(side)), key=lambda pair: (sum(pair), pair))
    return torch.stack([torch.outer(waves[v], waves[u]) for u, v in pairs])
