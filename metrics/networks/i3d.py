"""I3D of FVD: Inflated Inception (Carreira and Zisserman, CVPR 2017), equal to the TF-Hub and hassony2 versions.

The padding of a layer is max(kernel - stride, 0), with the odd pixel at the end, and pools round up; this equals
TensorFlow's SAME padding for the sizes of FVD. Features are the 400 Kinetics logits before the softmax, averaged over
time.

Shapes: B clips, T frames; input (B, 3, T, 224, 224), output (B, 400).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

FILES = "i3d_torchscript.pt or i3d_pretrained_400.pt"
CLASSES = 400
# Output channels of the convolutions: branch 0; branch 1 (1x1x1, 3x3x3); branch 2 (1x1x1, 3x3x3); branch 3.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


class I3D(nn.Module):
    """Maps clips to 400 logits. Parameter names are those of hassony2; VideoGPT's names are translated.

    Args:
        weights: ``i3d_torchscript.pt`` (StyleGAN-V) or ``i3d_pretrained_400.pt`` (VideoGPT, TATS), or the tensors by
            name.
        eps: Epsilon of the batch norms: 1e-3 in the TF-Hub graph and StyleGAN-V; 1e-5 in VideoGPT, TATS and cd-fvd.

    Raises:
        ValueError: If the weights have neither set of names.
    """

    dimensions = CLASSES

    def __init__(self, weights: Weights, eps: float = 1e-3) -> None:
        super().__init__()
        self.conv3d_1a_7x7 = _Unit(3, 64, 7, stride=2, eps=eps)
        self.maxpool_2a = _SamePool((1, 3, 3), (1, 2, 2))
        self.conv3d_2b_1x1 = _Unit(64, 64, 1, eps=eps)
        self.conv3d_2c_3x3 = _Unit(64, 192, 3, eps=eps)
        self.maxpool_3a = _SamePool((1, 3, 3), (1, 2, 2))
        width = 192
        for name, channels in _MIXED.items():
            self.add_module(f"mixed_{name}", _Mixed(width, channels, eps))
            width = channels[0] + channels[2] + channels[4] + channels[5]
        self.maxpool_4a = _SamePool((3, 3, 3), (2, 2, 2))
        self.maxpool_5a = _SamePool((2, 2, 2), (2, 2, 2))
        self.conv3d_0c_1x1 = _Unit(width, CLASSES, 1, eps=None)
        tensors = read_tensors(weights, FILES)
        load_strictly(self, hassony2_names(tensors), FILES)
        self.provenance = provenance("I3D", weights)
        frozen(self)
        self.to(memory_format=torch.channels_last_3d)

    @full_precision
    def forward(self, clips: Tensor) -> Tensor:
        """Maps (B, 3, T, 224, 224) float32 in [-1, 1], T >= 9, to (B, 400) logits averaged over time."""
        clips = clips.to(self.conv3d_0c_1x1.conv3d.weight.device).contiguous(memory_format=torch.channels_last_3d)
        x = self.maxpool_2a(self.conv3d_1a_7x7(clips))
        x = self.maxpool_3a(self.conv3d_2c_3x3(self.conv3d_2b_1x1(x)))
        for name in _MIXED:
            if name in ("4b", "5b"):
                x = (self.maxpool_4a if name == "4b" else self.maxpool_5a)(x)
            x = getattr(self, f"mixed_{name}")(x)
        x = self.conv3d_0c_1x1(F.avg_pool3d(x, (2, 7, 7), stride=1))
        return x.mean(dim=(3, 4)).mean(dim=2)


def hassony2_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translates the names of VideoGPT's InceptionI3d to hassony2's; hassony2's names are unchanged."""
    renamed = {}
    for key, value in tensors.items():
        layer, _, rest = key.partition(".")
        layer = layer.replace("logits", "conv3d_0c_1x1").replace("Conv3d_", "conv3d_").replace("Mixed_", "mixed_")
        rest = re.sub(r"^b0\.", "branch_0.", rest)
        rest = re.sub(r"^b([123])([ab])\.", lambda m: f"branch_{m[1]}.{'ab'.index(m[2])}.", rest)
        renamed[f"{layer}.{rest.replace('bn.', 'batch3d.')}"] = value
    return renamed


class _Unit(nn.Module):
    """SAME convolution, batch norm and ReLU; with ``eps=None`` a SAME convolution with bias only."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, eps: float | None = 1e-3) -> None:
        super().__init__()
        self.pad = _same_padding((kernel,) * 3, (stride,) * 3)
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=eps is None)
        self.batch3d = nn.BatchNorm3d(outputs, eps=eps) if eps is not None else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(F.pad(x, self.pad))
        return x if self.batch3d is None else F.relu(self.batch3d(x))


class _SamePool(nn.Module):
    """SAME max pool. Zero padding is correct, since the inputs are non-negative after a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.pad, self.kernel, self.stride = _same_padding(kernel, stride), kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(F.pad(x, self.pad), self.kernel, self.stride, ceil_mode=True)


class _Mixed(nn.Module):
    """Inception block with four parallel branches: 1x1x1, twice 1x1x1 -> 3x3x3, and pool -> 1x1x1."""

    def __init__(self, inputs: int, channels: tuple[int, ...], eps: float) -> None:
        super().__init__()
        c0, c1a, c1b, c2a, c2b, c3 = channels
        self.branch_0 = _Unit(inputs, c0, 1, eps=eps)
        self.branch_1 = nn.Sequential(_Unit(inputs, c1a, 1, eps=eps), _Unit(c1a, c1b, 3, eps=eps))
        self.branch_2 = nn.Sequential(_Unit(inputs, c2a, 1, eps=eps), _Unit(c2a, c2b, 3, eps=eps))
        self.branch_3 = nn.Sequential(_SamePool((3, 3, 3), (1, 1, 1)), _Unit(inputs, c3, 1, eps=eps))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch_0(x), self.branch_1(x), self.branch_2(x), self.branch_3(x)], dim=1)


def _same_padding(kernel: tuple[int, ...], stride: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the padding for F.pad: last dimension first, with the odd pixel at the end."""
    pads = []
    for k, s in zip(reversed(kernel), reversed(stride), strict=True):
        total = max(k - s, 0)
        pads += [total // 2, total - total // 2]
    return tuple(pads)
