"""SyncNet (Chung and Zisserman, ACCV-W 2016), equal to syncnet_python's model S, with its parameter names.

Shapes: T frames, W windows of five frames, D = 1024 embedding width (times ``width`` in a proxy).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from metrics.networks.metric_weights import Weights, frozen, load_strictly, provenance, read_tensors
from metrics.networks.precision import full_precision

FILE = "syncnet_v2.model"
FRAME_SIZE = 224
DIMENSIONS = 1024  # embedding width of the official network
WINDOW_FRAMES = 5


class SyncNet(nn.Module):
    """Maps lip windows and MFCC windows to embeddings in one space, not normalised.

    Args:
        weights: Path of ``syncnet_v2.model``, or the tensors by name; None for new weights, to be trained.
        width: Factor on the original's numbers of channels; below 1 the network is a proxy.
        stride: Stride of the first layer on pictures: 2 in the original; 4 in a proxy, whose first pool has a smaller
            stride, so that all later maps keep their size.

    Raises:
        ValueError: If the weights do not fit.
    """

    def __init__(self, weights: Weights | None, width: float = 1.0, stride: int = 2) -> None:
        super().__init__()
        first, second, third, last, embedding = (round(width * size) for size in (64, 192, 384, 256, DIMENSIONS))
        self.dimensions, self.stride = embedding, stride
        self.netcnnaud = nn.Sequential(
            *_audio_layer(1, first),
            nn.MaxPool2d(1, 1),
            *_audio_layer(first, second),
            nn.MaxPool2d(3, (1, 2)),
            *_audio_layer(second, third),
            *_audio_layer(third, last),
            *_audio_layer(last, last),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(last, 2 * last, (5, 4)),
            nn.BatchNorm2d(2 * last),
            nn.ReLU(),
        )
        self.netfcaud = _head(2 * last, embedding)
        self.netfclip = _head(2 * last, embedding)
        thin = round(width * 96)
        self.netcnnlip = nn.Sequential(
            *_lip_layer(3, thin, (5, 7, 7), stride=stride),
            nn.MaxPool3d((1, 3, 3), (1, 4 // stride, 4 // stride)),
            *_lip_layer(thin, last, (1, 5, 5), stride=2, padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), padding=(0, 1, 1)),
            *_lip_layer(last, last, (1, 3, 3), padding=1),
            *_lip_layer(last, last, (1, 3, 3), padding=1),
            *_lip_layer(last, last, (1, 3, 3), padding=1),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_lip_layer(last, 2 * last, (1, 6, 6)),
        )
        self._folded: list[tuple[Tensor, Tensor]] | None = None
        if weights is not None:
            load_strictly(self, read_tensors(weights, FILE), FILE)
            self.provenance = provenance("SyncNet", weights)
            frozen(self)

    def forward(self, windows: Tensor) -> Tensor:
        """Maps (W, 3, 5, 224, 224) BGR in [0, 255] to (W, 1024), with the layers of the original."""
        return self.netfclip(self.netcnnlip(windows).flatten(1))

    @full_precision
    def lip(self, frames: Tensor, batch: int | None = None) -> Tensor:
        """Computes the embedding of every window of five consecutive frames.

        Only the first layer has a kernel over time, so five frames are treated as 15 channels of an image network,
        with batch norms folded into the convolutions. This equals ``forward`` up to float32 rounding and is about 1.6
        times as fast.

        Args:
            frames: (T, 3, 224, 224) uint8 BGR, T >= 5.
            batch: Number of windows per pass; None for 4 on a CPU (larger batches exceed its cache) and 64 elsewhere.

        Returns:
            (T - 4, 1024) float32.

        Raises:
            ValueError: If there are fewer than five frames, or frames of another size.
        """
        if frames.shape[1:] != (3, FRAME_SIZE, FRAME_SIZE) or len(frames) < WINDOW_FRAMES:
            raise ValueError(f"SyncNet: expected at least 5 frames (T, 3, 224, 224), found {tuple(frames.shape)}")
        device = self.netfclip[0].weight.device
        windows = frames.unfold(0, WINDOW_FRAMES, 1).permute(0, 1, 4, 2, 3).flatten(1, 2)  # channel-major, time-minor
        embeddings = []
        for part in windows.split(batch or (4 if device.type == "cpu" else 64)):
            x = part.to(device, torch.float32).contiguous(memory_format=torch.channels_last)
            embeddings.append(self.netfclip(self._lip_as_images(x).flatten(1)))
        return torch.cat(embeddings)

    @full_precision
    def audio(self, windows: Tensor, batch: int = 128) -> Tensor:
        """Maps (W, 1, 13, 20) float32 MFCC windows to (W, 1024)."""
        device = self.netfclip[0].weight.device
        parts = [self.netfcaud(self.netcnnaud(part.to(device)).flatten(1)) for part in windows.split(batch)]
        return torch.cat(parts)

    def embed(self, clips: Sequence[Tensor], audio: Tensor) -> tuple[Tensor, Tensor]:
        """Computes embeddings with gradients, for training.

        Args:
            clips: (T, 3, 224, 224) float32 BGR clips in [0, 255]; every five consecutive frames are a window.
            audio: (W, 1, 13, 20) float32 MFCC windows.

        Returns:
            (sum of T - 4, D) lip embeddings and (W, D) audio embeddings.
        """
        first, *layers = self.netcnnlip
        # The first kernel slides over time; all later layers process each window separately.
        x = torch.cat([first(clip.transpose(0, 1)[None])[0].transpose(0, 1) for clip in clips])
        for layer in layers:
            x = layer(x[:, :, None])[:, :, 0]
        return self.netfclip(x.flatten(1)), self.netfcaud(self.netcnnaud(audio).flatten(1))

    def _lip_as_images(self, x: Tensor) -> Tensor:
        if self._folded is None or self._folded[0][0].device != x.device:
            self._folded = [self._fold(i) for i in (0, 4, 8, 11, 14, 18)]
        weights = self._folded
        x = F.max_pool2d(F.relu(F.conv2d(x, *weights[0], stride=self.stride)), 3, 4 // self.stride)
        x = F.max_pool2d(F.relu(F.conv2d(x, *weights[1], stride=2, padding=1)), 3, 2, padding=1)
        for layer in weights[2:5]:
            x = F.relu(F.conv2d(x, *layer, padding=1))
        return F.relu(F.conv2d(F.max_pool2d(x, 3, 2), *weights[5]))

    def _fold(self, index: int) -> tuple[Tensor, Tensor]:
        convolution, norm = self.netcnnlip[index], self.netcnnlip[index + 1]
        assert isinstance(convolution, nn.Conv3d)
        assert isinstance(norm, nn.BatchNorm3d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        weight, bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        return weight.detach().flatten(1, 2).contiguous(memory_format=torch.channels_last), bias.detach()


def _audio_layer(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()


def _lip_layer(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, padding: int = 0
) -> tuple[nn.Module, ...]:
    convolution = nn.Conv3d(inputs, outputs, kernel, (1, stride, stride), (0, padding, padding))
    return convolution, nn.BatchNorm3d(outputs), nn.ReLU()


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, outputs // 2), nn.BatchNorm1d(outputs // 2), nn.ReLU(), nn.Linear(outputs // 2, outputs)
    )
