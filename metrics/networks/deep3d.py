"""Face reconstruction network of E-FID: Deep3DFaceRecon_pytorch's ResNet50 (Deng et al., CVPRW 2019).

Shapes: N faces; 257 coefficients = identity 80, expression 64, texture 80, angle 3, lighting 27, translation 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

if TYPE_CHECKING:  # late: torchvision takes longer to import than torch
    from torchvision.models import ResNet

FILE = "epoch_20.pth"
HEADS = (80, 64, 80, 3, 27, 2, 1)
EXPRESSION = slice(80, 144)


class Deep3DFace(nn.Module):
    """Maps aligned faces to expression coefficients.

    Parameter names are those under ``net_recon`` in ``epoch_20.pth``.

    Args:
        weights: Path of ``epoch_20.pth`` of the original release, or the tensors by name. The closed-eye update of
            2023-04-25 gives other values.

    Raises:
        ValueError: If the weights do not fit.
    """

    dimensions = 64
    input_size = 224
    name = "deep3d"

    def __init__(self, weights: Weights) -> None:
        from torchvision.models import resnet50

        super().__init__()
        self.backbone = resnet50(weights=None)
        self.backbone.fc = nn.Identity()
        self.final_layers = nn.ModuleList(nn.Conv2d(2048, width, 1) for width in HEADS)
        load_strictly(self, read_tensors(weights, FILE, part="net_recon"), FILE)
        self.provenance = provenance("Deep3DFaceRecon ResNet50", weights)
        frozen(self)
        fold_normalisations(self.backbone)
        self.to(memory_format=torch.channels_last)

    @full_precision
    def coefficients(self, faces: Tensor) -> Tensor:
        """Maps (N, 3, 224, 224) uint8 RGB to (N, 257) float32; scales to [0, 1] without ImageNet statistics."""
        x = (faces.to(self.backbone.conv1.weight.device).float() / 255).contiguous(memory_format=torch.channels_last)
        pooled = self.backbone(x)[:, :, None, None]
        return torch.cat([head(pooled).flatten(1) for head in self.final_layers], dim=1)

    def forward(self, faces: Tensor) -> Tensor:
        """Maps (N, 3, 224, 224) uint8 RGB aligned faces to (N, 64) expression, in standard deviations of the 3DMM."""
        return self.coefficients(faces)[:, EXPRESSION]


def fold_normalisations(network: ResNet) -> None:
    """Folds every batch norm into the convolution before it; takes 20 % less time on a CPU.

    The outputs are equal up to float32 rounding.

    Args:
        network: Network in evaluation mode; changed in place.
    """
    from torchvision.models.resnet import Bottleneck

    network.conv1, network.bn1 = fuse_conv_bn_eval(network.conv1, network.bn1), nn.Identity()
    for block in (module for module in network.modules() if isinstance(module, Bottleneck)):
        for place in "123":
            convolution, normalisation = getattr(block, f"conv{place}"), getattr(block, f"bn{place}")
            setattr(block, f"conv{place}", fuse_conv_bn_eval(convolution, normalisation))
            setattr(block, f"bn{place}", nn.Identity())
        if block.downsample is not None:
            block.downsample = nn.Sequential(fuse_conv_bn_eval(*block.downsample))
