"""Checks and conversions of the uint8 frames of codecs.

Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from torch import Tensor


def check_frames(frames: Tensor, downscale: int) -> None:
    """Checks that a codec can encode the frames.

    Args:
        frames: (F, 3, H, W) uint8 frames, H and W multiples of ``downscale``.
        downscale: Ratio H / h of the codec.

    Raises:
        ValueError: If the frames have another shape, type or size.
    """
    if frames.ndim != 4 or frames.shape[1] != 3 or str(frames.dtype) != "torch.uint8" or not len(frames):
        raise ValueError(
            f"frames must be (F, 3, H, W) uint8 with F > 0, found {tuple(frames.shape)} {str(frames.dtype)[6:]}"
        )
    height, width = frames.shape[2:]
    if height % downscale or width % downscale:
        raise ValueError(f"frame_size must be a multiple of {downscale} for this codec, found {width}x{height} pixels")


def to_signed(frames: Tensor) -> Tensor:
    """Maps uint8 in [0, 255] to float32 in [-1, 1]."""
    return frames.float() / 127.5 - 1


def from_signed(values: Tensor) -> Tensor:
    """Maps float in [-1, 1] to uint8 in [0, 255]; rounds, and clips values out of range."""
    return ((values.float() + 1) * 127.5).round().clamp(0, 255).byte()
