"""Proxy of E-FID's network: MobileNet 0.5 of 3DDFA_V2 (Guo et al., ECCV 2020), 10 expression parameters at 120 px.

Its values never get the name E-FID.
Shapes: N faces; 62 parameters = pose 12, identity 40, expression 10.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metrics.networks.metric_weights import Provenance, Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

FILE = "mb05_120x120.pth"
PARAMETERS = 62
INPUT_SIZE = 120
# name -> (outputs at width 1, stride), in order
_BLOCKS = {
    "dw2_1": (64, 1),
    "dw2_2": (128, 2),
    "dw3_1": (128, 1),
    "dw3_2": (256, 2),
    "dw4_1": (256, 1),
    "dw4_2": (512, 2),
    **{f"dw5_{i}": (512, 1) for i in range(1, 6)},
    "dw5_6": (1024, 2),
    "dw6": (1024, 1),
}


class ThreeDDFA(nn.Module):
    """Maps face crops to expression parameters.

    Args:
        weights: Path of ``mb05_120x120.pth``, or the tensors by name.
        statistics: Path of ``mb05_param_mean_std.npz`` with mean and standard deviation of the 62 parameters. If None,
            parameters are in standard deviations.
        width: Factor on the number of channels.

    Raises:
        ValueError: If the weights do not fit.
    """

    dimensions = 10
    input_size = INPUT_SIZE
    name = "3ddfa"

    def __init__(self, weights: Weights, statistics: str | Path | None = None, width: float = 0.5) -> None:
        super().__init__()
        channels = int(32 * width)
        self.conv1 = nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        for name, (outputs, stride) in _BLOCKS.items():
            self.add_module(name, _Separable(channels, int(outputs * width), stride))
            channels = int(outputs * width)
        self.fc_param = nn.Linear(channels, PARAMETERS)
        tensors = {
            key.removeprefix("module."): value
            for key, value in read_tensors(weights, FILE, part="state_dict").items()
            if "fc_lm" not in key  # an auxiliary landmark head used only in training
        }
        load_strictly(self, tensors, FILE)
        found = provenance("3DDFA_V2 MobileNet 0.5 (proxy)", weights)
        self.provenance: Provenance = found
        mean, std = np.zeros(PARAMETERS, np.float32), np.ones(PARAMETERS, np.float32)
        if statistics is not None:
            with np.load(statistics) as stored:
                mean, std = stored["mean"].astype(np.float32), stored["std"].astype(np.float32)
        self.register_buffer("mean", torch.from_numpy(mean), persistent=False)
        self.register_buffer("std", torch.from_numpy(std), persistent=False)
        frozen(self)
        self.to(memory_format=torch.channels_last)

    mean: Tensor
    std: Tensor

    @full_precision
    def parameters_of(self, faces: Tensor) -> Tensor:
        """Maps (N, 3, 120, 120) uint8 RGB to (N, 62) float32; the network's own input is BGR, (x - 127.5) / 128."""
        x = ((faces.to(self.mean.device).flip(1).float() - 127.5) / 128).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.bn1(self.conv1(x)))
        for name in _BLOCKS:
            x = getattr(self, name)(x)
        return self.fc_param(x.mean(dim=(2, 3))) * self.std + self.mean

    def forward(self, faces: Tensor) -> Tensor:
        """Maps (N, 3, 120, 120) uint8 RGB face crops to (N, 10) expression parameters."""
        return self.parameters_of(faces)[:, 52:62]


class _Separable(nn.Module):
    """Depthwise 3 x 3 and pointwise 1 x 1 convolution, each with batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False)
        self.bn_dw = nn.BatchNorm2d(inputs)
        self.conv_sep = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn_sep(self.conv_sep(F.relu(self.bn_dw(self.conv_dw(x))))))
