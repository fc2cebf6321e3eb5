"""ArcFace (Deng et al., CVPR 2019) with the backbone IR-SE50: a face to a unit vector of its identity.

The blocks are those of the paper's section 3 (batch norm, convolution, batch norm, PReLU, convolution, batch norm) with
squeeze and excitation (Hu et al., CVPR 2018). Parameter names are those of ``recognition_arcface_ir_se50.pth``.

Shapes: N faces, D = 512.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.functional.face_identity import FACE_SIZE
from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

FILE = "recognition_arcface_ir_se50.pth"
DIMENSIONS = 512
STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels and blocks; each stage halves the picture
SQUEEZE = 16


class ArcFace(nn.Module):
    """Maps aligned faces to unit vectors; the cosine of two is large if they are of one person.

    Args:
        weights: Path of ``recognition_arcface_ir_se50.pth``, or the tensors by name.

    Raises:
        ValueError: If the weights do not fit.
    """

    dimensions = DIMENSIONS

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        width = STAGES[0][0]
        first = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.input_layer = nn.Sequential(first, nn.BatchNorm2d(width), nn.PReLU(width))
        blocks = []
        for channels, count in STAGES:
            for number in range(count):
                blocks.append(_Block(width, channels, 2 if number == 0 else 1))
                width = channels
        self.body = nn.Sequential(*blocks)
        side = FACE_SIZE // 2 ** len(STAGES)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Dropout(0.6),
            nn.Flatten(),
            nn.Linear(width * side**2, DIMENSIONS),
            nn.BatchNorm1d(DIMENSIONS),
        )
        load_strictly(self, read_tensors(weights, FILE), FILE)
        self.provenance = provenance("ArcFace IR-SE50", weights)
        frozen(self)

    @full_precision
    def forward(self, faces: Tensor) -> Tensor:
        """Maps (N, 3, 112, 112) uint8 RGB faces of ``aligned_face`` to (N, 512) float32 of length 1.

        The network was trained on BGR pictures in [-1, 1].
        """
        device = next(self.parameters()).device
        x = (faces.flip(1).to(device).float() - 127.5) / 127.5
        return F.normalize(self.output_layer(self.body(self.input_layer(x))))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            _Excitation(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.res_layer(x)
        return residual + self.shortcut_layer(x)


class _Excitation(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // SQUEEZE, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // SQUEEZE, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))))
