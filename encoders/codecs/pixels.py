"""Frames as codecs take and give them: uint8 in, uint8 out, a bounded number at a time.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor


def check_frames(frames: Tensor, downscale: int) -> None:
    """Refuses what a codec cannot encode.

    Args:
        frames: should be (F, 3, H, W) uint8 with H and W multiples of ``downscale``.
        downscale: H / h of the codec.

    Raises:
        ValueError: saying what was found and what was expected.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or str(frames.dtype) != "torch.uint8" or not len(frames):
        raise ValueError(
            f"frames must be (F, 3, H, W) uint8 with F > 0, found {tuple(frames.shape)} {str(frames.dtype)[6:]}"
        )
    height, width = frames.shape[2:]
    if height % downscale or width % downscale:
        raise ValueError(f"frame_size must be a multiple of {downscale} for this codec, found {width}x{height} pixels")


def to_signed(frames: Tensor) -> Tensor:
    """Uint8 0 ... 255 -> float32 -1 ... 1."""
    return frames.float() / 127.5 - 1


def from_signed(values: Tensor) -> Tensor:
    """Float -1 ... 1 -> uint8 0 ... 255, rounded, out-of-range values clipped."""
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).byte()
