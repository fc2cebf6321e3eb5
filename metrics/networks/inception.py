"""InceptionV3 of FID: the network of pytorch-fid 0.3.0 with weights from a file.

The modified blocks come from the package pytorch_fid. Its constructor would download the weights, so it is not used.

Shapes: B images, H x W pixels, D features (64, 192, 768 or 2048).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

if TYPE_CHECKING:  # late: torchvision takes longer to import than torch, and proxies do without it
    from torchvision.models.inception import Inception3

FILE = "pt_inception-2015-12-05-6726825d.pth"
DIMENSIONS = (64, 192, 768, 2048)
INPUT_SIZE = 299


class InceptionFeatures(nn.Module):
    """Maps images to the features of FID: pool3 (2048), or the spatial mean of an earlier stage.

    Images are resized to 299 x 299, bilinear without antialiasing and without aligned corners, then scaled to [-1, 1].
    Parameter names are those of ``pt_inception-2015-12-05-6726825d.pth``.

    Args:
        weights: Path of that file, or its tensors by name.
        dimensions: Number of dimensions D: 2048 for FID; 64, 192 and 768 are the other values of pytorch-fid's
            ``--dims``.

    Examples:
        >>> import torch
        >>> from metrics.networks.inception import InceptionFeatures
        >>> network = InceptionFeatures("pt_inception-2015-12-05-6726825d.pth")  # doctest: +SKIP
        >>> network(torch.zeros(1, 3, 256, 256, dtype=torch.uint8)).shape  # doctest: +SKIP
        torch.Size([1, 2048])

    Raises:
        ValueError: If the weights do not fit, or ``dimensions`` is another number.
    """

    input_size = INPUT_SIZE
    dimensions = DIMENSIONS[-1]

    def __init__(self, weights: Weights, dimensions: int = 2048) -> None:
        super().__init__()
        if dimensions not in DIMENSIONS:
            raise ValueError(f"FID: dimensions must be one of {', '.join(map(str, DIMENSIONS))}, found {dimensions}")
        self.dimensions = dimensions
        self.network = fid_inception()
        load_strictly(self.network, read_tensors(weights, FILE), FILE)
        self.provenance = provenance("InceptionV3 (pytorch-fid)", weights)
        frozen(self)
        self.to(memory_format=torch.channels_last)  # equal values, faster on a CPU

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) RGB, uint8 or float in [0, 1], to (B, D) float32."""
        x = preprocess(images.to(self.network.fc.weight.device)).contiguous(memory_format=torch.channels_last)
        net = self.network
        x = net.maxpool1(net.Conv2d_2b_3x3(net.Conv2d_2a_3x3(net.Conv2d_1a_3x3(x))))
        if self.dimensions > 64:
            x = net.maxpool2(net.Conv2d_4a_3x3(net.Conv2d_3b_1x1(x)))
        if self.dimensions > 192:
            for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e"):
                x = getattr(net, f"Mixed_{name}")(x)
        if self.dimensions > 768:
            x = net.Mixed_7c(net.Mixed_7b(net.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


def preprocess(images: Tensor) -> Tensor:
    """Resizes (B, 3, H, W) uint8, or float in [0, 1], to (B, 3, 299, 299) float32 in [-1, 1], as in pytorch-fid."""
    return 2 * resized(images, INPUT_SIZE) - 1


def resized(images: Tensor, size: int) -> Tensor:
    """Scales (B, 3, H, W) as ``as_unit_floats`` and resizes them to (B, 3, size, size), bilinear, not antialiased.

    One image at a time, whose floats fit in a processor's cache: equal values in a fifth of the time.
    """
    return torch.cat(
        [
            F.interpolate(as_unit_floats(image), size=(size, size), mode="bilinear", align_corners=False)
            for image in images.split(1)
        ]
    )


def as_unit_floats(images: Tensor) -> Tensor:
    """Scales (..., 3, H, W) uint8 to float32 in [0, 1], bit-identical to torchvision's ToTensor; keeps floats.

    Raises:
        ValueError: If the images have another type or range, or not three channels.
    """
    if images.shape[-3] != 3:
        raise ValueError(f"images must have shape (..., 3, H, W), found {tuple(images.shape)}")
    if images.dtype == torch.uint8:
        return images.float().div_(255)
    if not images.is_floating_point() or images.numel() and (images.min() < 0 or images.max() > 1):
        raise ValueError("images must be uint8, or floats in [0, 1]")
    return images.float()


def fid_inception() -> Inception3:
    """Builds torchvision's Inception with pytorch-fid's blocks (average pools without padding, one max pool)."""
    from pytorch_fid.inception import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models.inception import Inception3

    net = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
    net.Mixed_5b = FIDInceptionA(192, pool_features=32)
    net.Mixed_5c = FIDInceptionA(256, pool_features=64)
    net.Mixed_5d = FIDInceptionA(288, pool_features=64)
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(net, f"Mixed_{name}", FIDInceptionC(768, channels_7x7=width))
    net.Mixed_7b = FIDInceptionE_1(1280)
    net.Mixed_7c = FIDInceptionE_2(2048)
    return net
