"""Identity encoder: a small ResNet that tells Di-CTE whose face it animates (EmotiveTalk Fig. 2b).

Group normalisation instead of batch normalisation: what one clip gives does not depend on its batch, and there are no
running statistics for a frozen V-AID to change.

Shapes: B portraits, C widths of the stages.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class IdentityEncoder(nn.Module):
    """x_ref to one vector.

    Args:
        widths: channels of each stage; every stage after the first halves the picture.
        size: side in pixels the portrait is brought to.
        out_width: width of the vector.
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
    """Two 3x3 convolutions around a shortcut, normalised before each (He et al. 2016, v2)."""

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
