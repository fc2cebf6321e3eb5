"""Motion encoder of PD-FGC: a face alignment network (FAN) with one hourglass and a head per factor.

Reimplementation with the architecture and key names of the published ``motion_model.pth``, for frozen use. Sources:
PD-FGC (Wang et al., CVPR 2023) and FAN (Bulat and Tzimiropoulos, ICCV 2017).

Shapes: B faces of 224 x 224, C channels, h x w feature maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_SIZE = 224
FEATURE_WIDTH = 512
MOUTH_WIDTH, POSE_WIDTH, EYE_WIDTH, EMOTION_WIDTH = 512, 6, 6, 30
LANDMARK_MAPS = 68
TRUNK_CHANNELS = 256
DEPTH = 4


class ConvBlock(nn.Module):
    """Pre-activation residual block; its three 3 x 3 convolutions give 1/2, 1/4 and 1/4 of the output channels.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels, a multiple of 4.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        half, quarter = outputs // 2, outputs // 4
        for index, (before, after) in enumerate([(inputs, half), (half, quarter), (quarter, quarter)], start=1):
            self.add_module(f"bn{index}", nn.BatchNorm2d(before))
            self.add_module(f"conv{index}", nn.Conv2d(before, after, 3, padding=1, bias=False))
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs:
            self.downsample = nn.Sequential(
                nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, inputs, h, w) to (B, outputs, h, w)."""
        parts, part = [], x
        for index in (1, 2, 3):
            part = self.get_submodule(f"conv{index}")(F.relu(self.get_submodule(f"bn{index}")(part)))
            parts.append(part)
        return torch.cat(parts, dim=1) + self.downsample(x)


class Hourglass(nn.Module):
    """Four levels of pooling and interpolation with a skip connection at every level.

    The original has dropout on the skips during training; it has no effect in a frozen network and is left out.
    """

    def __init__(self) -> None:
        super().__init__()
        for level in range(DEPTH, 0, -1):
            self.add_module(f"b1_{level}", ConvBlock(TRUNK_CHANNELS, TRUNK_CHANNELS))
            self.add_module(f"b2_{level}", ConvBlock(TRUNK_CHANNELS, TRUNK_CHANNELS))
            self.add_module(f"b3_{level}", ConvBlock(TRUNK_CHANNELS, TRUNK_CHANNELS))
        self.b2_plus_1 = ConvBlock(TRUNK_CHANNELS, TRUNK_CHANNELS)

    def forward(self, x: Tensor, level: int = DEPTH) -> Tensor:
        """Maps (B, 256, h, w) to the same shape."""
        low = self.get_submodule(f"b2_{level}")(F.max_pool2d(x, 2))
        low = self.b2_plus_1(low) if level == 1 else self.forward(low, level - 1)
        low = self.get_submodule(f"b3_{level}")(low)
        skip = self.get_submodule(f"b1_{level}")(x)
        return skip + F.interpolate(low, size=skip.shape[-2:], mode="bilinear", align_corners=False)


class FeatureExtractor(nn.Module):
    """Maps a face to 512 features, by 68 landmark maps that are reduced to one 28 x 28 map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = ConvBlock(64, 128)
        self.conv3 = ConvBlock(128, 128)
        self.conv4 = ConvBlock(128, TRUNK_CHANNELS)
        self.m0 = Hourglass()
        self.top_m_0 = ConvBlock(TRUNK_CHANNELS, TRUNK_CHANNELS)
        self.conv_last0 = nn.Conv2d(TRUNK_CHANNELS, TRUNK_CHANNELS, 1)
        self.bn_end0 = nn.BatchNorm2d(TRUNK_CHANNELS)
        self.l0 = nn.Conv2d(TRUNK_CHANNELS, LANDMARK_MAPS, 1)
        self.bn5 = nn.BatchNorm2d(LANDMARK_MAPS)
        self.conv6 = nn.Conv2d(LANDMARK_MAPS, 1, 3, stride=2, padding=1)
        self.fc = nn.Linear((INPUT_SIZE // 8) ** 2, FEATURE_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, 3, 224, 224) in [-1, 1] to (B, 512).

        Raises:
            ValueError: If the shape differs.
        """
        if x.shape[1:] != (3, INPUT_SIZE, INPUT_SIZE):
            raise ValueError(f"PD-FGC: expected (B, 3, {INPUT_SIZE}, {INPUT_SIZE}), found {tuple(x.shape)}")
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.conv4(self.conv3(F.max_pool2d(self.conv2(x), 2)))
        x = self.bn_end0(self.conv_last0(self.top_m_0(self.m0(x))))
        maps = F.relu(self.bn5(self.l0(F.relu(x))))
        return self.fc(F.relu(self.conv6(maps).flatten(1)))


def _head(width: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(FEATURE_WIDTH, width))


def _factor() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(FEATURE_WIDTH, FEATURE_WIDTH),
        nn.ReLU(),
        nn.BatchNorm1d(FEATURE_WIDTH),
        nn.Linear(FEATURE_WIDTH, FEATURE_WIDTH),
    )


class FanEncoder(nn.Module):
    """PD-FGC's ``net_motion``: mouth, head pose, eye and emotion latents of aligned faces.

    ``mouth_embed`` is not applied, since PD-FGC uses it only for its generator; it exists to load the checkpoint.
    """

    def __init__(self) -> None:
        super().__init__()
        self.model = FeatureExtractor()
        self.to_mouth = _factor()
        self.mouth_embed = _head(MOUTH_WIDTH - POSE_WIDTH - EYE_WIDTH)
        self.to_headpose = _factor()
        self.headpose_embed = _head(POSE_WIDTH)
        self.to_eye = _factor()
        self.eye_embed = _head(EYE_WIDTH)
        self.to_emo = _factor()
        self.emo_embed = _head(EMOTION_WIDTH)

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Maps (B, 3, 224, 224) in [-1, 1] to pose (B, 6), eye (B, 6), emotion (B, 30) and mouth (B, 512)."""
        features = self.model(faces)
        return (
            self.headpose_embed(self.to_headpose(features)),
            self.eye_embed(self.to_eye(features)),
            self.emo_embed(self.to_emo(features)),
            self.to_mouth(features),
        )
