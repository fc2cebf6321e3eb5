"""Proxies of the metrics' official networks: small networks that train.py trains on prepared shards.

Values of a proxy never get the official name of the metric. The header of a weight file has a record of the training
data and the accuracy. Shapes: B images or clips, F frames, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.proxy import Kind
from metrics.networks.inception import resized
from metrics.networks.metric_weights import frozen, load_strictly, provenance
from metrics.networks.precision import full_precision
from metrics.networks.syncnet import SyncNet
from runtime.checked_fields import check_count
from runtime.errors import first_line
from runtime.hashed_tensors import load_hashed, save_hashed
from runtime.tensors import TensorFileError

VERSION = 1
MOST_WIDTH = 1 << 12  # of a layer of a proxy network; the defaults are below 100
HEADER = "emotivetalk.standin"
IMAGE_SIZE = 128
VIDEO_SIZE = 56
FACE_SIZE = 64
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class ProxyInfo:
    """Description of a proxy network, stored in the header of its file.

    Attributes:
        kind: Kind of network: sync, image, video or expression.
        options: Arguments of the network.
        dataset: Name of the dataset of the training shards.
        speakers: Number of speakers in the training split.
        clips: Number of clips in the training split.
        steps: Number of training steps.
        seed: Seed of the initial weights and the order of samples.
        scores: Accuracy on clips of held-out speakers.
    """

    kind: str
    options: dict[str, Any]
    dataset: str
    speakers: int
    clips: int
    steps: int
    seed: int
    scores: dict[str, float] = field(default_factory=dict)


class ProxyImage(nn.Module):
    """Proxy of FID's network: maps images to the spatial mean of a small convolutional network.

    Args:
        width: Number of channels of the first layer.
        dimensions: Number of features D.
    """

    input_size = IMAGE_SIZE

    def __init__(self, width: int = 24, dimensions: int = 64) -> None:
        super().__init__()
        self.dimensions = dimensions
        widths = (3, width, 2 * width, 3 * width, 4 * width)
        self.layers = nn.Sequential(
            *(_layer(a, b, nn.Conv2d, nn.BatchNorm2d) for a, b in zip(widths, widths[1:], strict=False)),
            _layer(widths[-1], dimensions, nn.Conv2d, nn.BatchNorm2d, stride=1),
        )

    def embed(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) RGB, uint8 or float in [0, 1], to (B, D), with gradients."""
        return self.layers(2 * resized(images, IMAGE_SIZE) - 1).mean(dim=(2, 3))

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, H, W) RGB, uint8 or float in [0, 1], to (B, D) float32."""
        return self.embed(images.to(_device(self)))


class ProxyVideo(nn.Module):
    """Proxy of FVD's network: maps clips to the mean over space and time of a small 3-D convolutional network.

    Args:
        width: Number of channels of the first layer.
        dimensions: Number of features D.
    """

    def __init__(self, width: int = 16, dimensions: int = 48) -> None:
        super().__init__()
        self.dimensions = dimensions
        self.layers = nn.Sequential(
            _layer(3, width, nn.Conv3d, nn.BatchNorm3d, stride=(1, 2, 2)),
            _layer(width, 2 * width, nn.Conv3d, nn.BatchNorm3d, stride=2),
            _layer(2 * width, 4 * width, nn.Conv3d, nn.BatchNorm3d, stride=2),
            _layer(4 * width, dimensions, nn.Conv3d, nn.BatchNorm3d, stride=(1, 2, 2)),
        )

    def embed(self, clips: Tensor) -> Tensor:
        """Maps (B, 3, F, 224, 224) float32 in [-1, 1], the input of the I3D, to (B, D), with gradients."""
        small = F.adaptive_avg_pool3d(clips, (clips.shape[2], VIDEO_SIZE, VIDEO_SIZE))
        return self.layers(small).mean(dim=(2, 3, 4))

    @full_precision
    def forward(self, clips: Tensor) -> Tensor:
        """Maps (B, 3, F, 224, 224) float32 in [-1, 1] to (B, D) float32."""
        return self.embed(clips.to(_device(self)))


class ProxyExpression(nn.Module):
    """Proxy of E-FID's network: maps face crops, as for 3DDFA_V2, to expression factors in standard deviations.

    Args:
        dimensions: Number of factors D.
        width: Number of channels of the first layer.
    """

    input_size = FACE_SIZE

    def __init__(self, dimensions: int, width: int = 24) -> None:
        super().__init__()
        self.dimensions = dimensions
        widths = (3, width, 2 * width, 3 * width, 4 * width)
        self.layers = nn.Sequential(
            *(_layer(a, b, nn.Conv2d, nn.BatchNorm2d) for a, b in zip(widths, widths[1:], strict=False))
        )
        self.head = nn.Linear(widths[-1] * (FACE_SIZE // 16) ** 2, dimensions)

    def embed(self, faces: Tensor) -> Tensor:
        """Maps (B, 3, 64, 64) uint8 RGB to (B, D), with gradients."""
        return self.head(self.layers(faces.float() / 127.5 - 1).flatten(1))

    @full_precision
    def forward(self, faces: Tensor) -> Tensor:
        """Maps (B, 3, 64, 64) uint8 RGB face crops to (B, D) float32."""
        return self.embed(faces.to(_device(self)))


ProxyNetwork = SyncNet | ProxyImage | ProxyVideo | ProxyExpression
_BUILDERS: dict[str, Callable[..., ProxyNetwork]] = {
    "sync": lambda **options: SyncNet(None, **options),
    "image": ProxyImage,
    "video": ProxyVideo,
    "expression": ProxyExpression,
}


def new_proxy(kind: str, **options: Any) -> ProxyNetwork:
    """Builds an untrained proxy network.

    Raises:
        KeyError: If the kind is unknown.
    """
    return _BUILDERS[kind](**options)


def save_proxy(path: Path, network: nn.Module, info: ProxyInfo) -> None:
    """Writes the network and its description to a safetensors file, which appears only when complete."""
    header = {"version": VERSION, **asdict(info)}
    save_hashed(path, network.state_dict(), HEADER, header)


def find_proxies(folder: Path, kind: str) -> list[Path]:
    """Files of one kind anywhere below a folder, under their present or their earlier name, sorted."""
    names = (f"proxy_{kind}.safetensors", f"standin_{kind}.safetensors")
    return sorted(path for name in names for path in folder.rglob(name))


def load_proxy(path: Path, kind: str) -> tuple[ProxyNetwork, ProxyInfo]:
    """Loads a frozen proxy network and its description from a file of train.py.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, of a newer version, or has another kind of network.
    """
    wanted = f"a file written by train.py experiment=proxy/{kind}"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {wanted}")
    try:
        header, tensors = load_hashed(path, HEADER, VERSION)
        version = check_count("version", header.pop("version"), 0, 1 << 20)
        info = ProxyInfo(**header)
        for name, value in info.options.items():
            if type(value) not in (int, float) or not 0 < value <= MOST_WIDTH:
                raise ValueError(f"options.{name}={value!r:.60} (expected a number up to {MOST_WIDTH})")
    except TensorFileError as error:
        raise ValueError(f"{error}; expected {wanted}") from None
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: has no description of a proxy network ({error}); expected {wanted}") from None
    if version > VERSION:
        raise ValueError(f"{path}: has version {version}, expected at most {VERSION}; update emotivetalk")
    if info.kind != kind:
        raise ValueError(f"{path}: has a proxy network of kind {info.kind}; expected {wanted}")
    try:
        network = new_proxy(kind, **info.options)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(
            f"{path}: options={info.options} make no network ({first_line(error)}); expected {wanted}"
        ) from None
    load_strictly(network, tensors, wanted)
    network.provenance = provenance(f"proxy for {kind}", path)
    frozen(network)
    return network, info


def _layer(
    inputs: int,
    outputs: int,
    convolution: type[nn.Conv2d] | type[nn.Conv3d],
    norm: type[nn.BatchNorm2d] | type[nn.BatchNorm3d],
    stride: Any = 2,
) -> nn.Sequential:
    return nn.Sequential(convolution(inputs, outputs, 3, stride, padding=1, bias=False), norm(outputs), nn.ReLU())


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
