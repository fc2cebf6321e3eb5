"""Identity encoder: a small ResNet that embeds the portrait for Di-CTE (EmotiveTalk Fig. 2b).

Uses group instead of batch normalisation: a clip's embedding does not depend on its batch, and there are no running
statistics that could change in a frozen V-AID.

Shapes: B portraits, C widths of the stages.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class IdentityEncoder(nn.Module):
    """Embeds a portrait x_ref as one vector.

    Args:
        widths: Channels of each stage; every stage after the first halves the resolution.
        size: Side in pixels to which the portrait is resized.
        out_width: Width of the vector.
    """

    def __init__(self, widths: Sequence[int], size: int, out_width: int) -> None:
        super().__init__()
        self.size = size
        self.stem = nn.Conv2d(3, widths[0], 7, stride=2, padding=3, bias=False)
        stages: list[nn.Module] = []
        for before, after in zip([widths[0], *widths], widths, strict=False):
            stages += [ResidualBlock(before, after, 1 if not stages else 2), ResidualBlock(after, after, 1)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.LayerNorm(widths[-1]), nn.Linear(widths[-1], out_width))

    def forward(self, portrait: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 RGB -> (B, out_width)."""
        weight = self.stem.weight
        x = portrait.to(weight.device).permute(0, 3, 1, 2).to(weight.dtype) / 127.5 - 1
        x = F.interpolate(x, size=(self.size, self.size), mode="area")
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        return self.head(self.stages(x).mean((2, 3)))


class ResidualBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (He et al. 2016, v2)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(min(8, before), before), nn.GroupNorm(min(8, after), after)
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after or stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, h, w) -> (B, after, h / stride, w / stride)."""
        normed = F.silu(self.norm1(x))
        kept = x if self.shortcut is None else self.shortcut(normed)
        return kept + self.conv2(F.silu(self.norm2(self.conv1(normed))))
