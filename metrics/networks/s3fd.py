"""S3FD face detector (Zhang et al., ICCV 2017), equal to syncnet_python's S3FDNet, with its parameter names.

``s3fd-619a316812.pth`` of face-alignment has other weights and other names; it cannot be loaded.
Shapes: B images, H x W pixels, P priors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.functional.face_detection import priors_of
from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

FILE = "sfd_face.pth"
# VGG16: channels of the convolutions; "P" is a pool, "C" a pool that rounds up.
_VGG: tuple[int | str, ...] = (
    64, 64, "P", 128, 128, "P", 256, 256, 256, "C", 512, 512, 512, "P", 512, 512, 512, "P",
)  # fmt: skip
_TAPS = {15: "L2Norm3_3", 22: "L2Norm4_3", 29: "L2Norm5_3"}  # VGG layer -> norm before the detection heads


class S3FDNet(nn.Module):
    """Maps images to box offsets and face probabilities at six scales of priors.

    Args:
        weights: Path of ``sfd_face.pth``, or the tensors by name.

    Raises:
        ValueError: If the weights do not fit.
    """

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for item in _VGG:
            if isinstance(item, str):
                layers.append(nn.MaxPool2d(2, 2, ceil_mode=item == "C"))
            else:
                layers += [nn.Conv2d(width, item, 3, padding=1), nn.ReLU()]
                width = item
        layers += [nn.Conv2d(width, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]
        self.vgg = nn.ModuleList(layers)
        self.L2Norm3_3 = _L2Norm(256)
        self.L2Norm4_3 = _L2Norm(512)
        self.L2Norm5_3 = _L2Norm(512)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, 2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, 2, padding=1),
            ]
        )
        widths = (256, 512, 512, 1024, 512, 256)
        self.loc = nn.ModuleList(nn.Conv2d(c, 4, 3, padding=1) for c in widths)
        self.conf = nn.ModuleList(nn.Conv2d(c, 4 if i == 0 else 2, 3, padding=1) for i, c in enumerate(widths))
        load_strictly(self, read_tensors(weights, FILE), FILE)
        self.provenance = provenance("S3FD", weights)
        frozen(self)
        self.to(memory_format=torch.channels_last)

    @full_precision
    def heads(self, images: Tensor) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
        """Maps (B, 3, H, W) RGB minus the mean colour to offsets (B, P, 4), logits (B, P, 2) and the maps' sizes."""
        sources, x = [], images.to(self.L2Norm3_3.weight.device).contiguous(memory_format=torch.channels_last)
        for index, layer in enumerate(self.vgg):
            x = layer(x)
            if index in _TAPS:
                sources.append(getattr(self, _TAPS[index])(x))
        sources.append(x)
        for index, layer in enumerate(self.extras):
            x = F.relu(layer(x))
            if index % 2:
                sources.append(x)
        offsets = [head(source) for head, source in zip(self.loc, sources, strict=True)]
        logits = [head(source) for head, source in zip(self.conf, sources, strict=True)]
        # The finest map uses the maximum of three background logits (max-out), against false positives of tiny priors.
        logits[0] = torch.cat([logits[0][:, :3].amax(dim=1, keepdim=True), logits[0][:, 3:]], dim=1)
        flat = [torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in maps], dim=1) for maps in (offsets, logits)]
        sizes = [(m.shape[2], m.shape[3]) for m in offsets]
        return flat[0].unflatten(1, (-1, 4)), flat[1].unflatten(1, (-1, 2)), sizes

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, 3, H, W) to offsets (B, P, 4), probabilities (B, P, 2) of background and face, and priors (P, 4)."""
        offsets, logits, sizes = self.heads(images)
        priors = priors_of((images.shape[2], images.shape[3]), sizes).to(offsets.device)
        return offsets, logits.softmax(dim=-1), priors


class _L2Norm(nn.Module):
    """Normalises channels to unit length and scales each by a learned weight."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        norm = x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
        return self.weight[None, :, None, None] * (x / norm)
