"""Proxies for the metrics' official networks: small networks of the same kind, trained by train.py, with a info.

Their values never carry an official name. A file holds the weights and, in its header, the info that says what they
were trained on. Shapes: B images or clips, F frames, D features.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from configs.proxy import Kind
from metrics.networks.inception import as_unit_floats
from metrics.networks.metric_weights import frozen, load_strictly, provenance
from metrics.networks.precision import full_precision
from metrics.networks.syncnet import SyncNet
from runtime.files import whole_file

VERSION = 1
HEADER = "emotivetalk.standin"
IMAGE_SIZE = 128
VIDEO_SIZE = 56
FACE_SIZE = 64
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True)
class ProxyInfo:
    """What a proxy is, in its file's header.

    Attributes:
        kind: sync, image, video or expression.
        options: arguments of the network.
        dataset: name of the shards it was trained on.
        speakers: people in the training split.
        clips: clips in the training split.
        steps: of training.
        seed: of weights and order.
        scores: what it reaches on clips of held-out people.
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
    """FID's proxy: images to the mean of a small convolution network's last map.

    Args:
        width: channels of the first layer.
        dimensions: D.
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
        """(B, 3, H, W) RGB, uint8 or float in [0, 1] -> (B, D), with gradients."""
        x = as_unit_floats(images)
        x = F.interpolate(x, size=(IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", align_corners=False)
        return self.layers(2 * x - 1).mean(dim=(2, 3))

    @full_precision
    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) RGB, uint8 or float in [0, 1] -> (B, D) float32."""
        return self.embed(images.to(_device(self)))


class ProxyVideo(nn.Module):
    """FVD's proxy: clips to the mean of a small space-time convolution network's last map.

    Args:
        width: channels of the first layer.
        dimensions: D.
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
        """(B, 3, F, 224, 224) float32 in [-1, 1], as the I3D takes them -> (B, D), with gradients."""
        small = F.adaptive_avg_pool3d(clips, (clips.shape[2], VIDEO_SIZE, VIDEO_SIZE))
        return self.layers(small).mean(dim=(2, 3, 4))

    @full_precision
    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, F, 224, 224) float32 in [-1, 1] -> (B, D) float32."""
        return self.embed(clips.to(_device(self)))


class ProxyExpression(nn.Module):
    """E-FID's proxy: face crops, cut as for 3DDFA_V2, to expression factors in their standard deviations.

    Args:
        dimensions: D, the factors.
        width: channels of the first layer.
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
        """(B, 3, 64, 64) uint8 RGB -> (B, D), with gradients."""
        return self.head(self.layers(faces.float() / 127.5 - 1).flatten(1))

    @full_precision
    def forward(self, faces: Tensor) -> Tensor:
        """(B, 3, 64, 64) uint8 RGB face crops -> (B, D) float32."""
        return self.embed(faces.to(_device(self)))


ProxyNetwork = SyncNet | ProxyImage | ProxyVideo | ProxyExpression
_BUILDERS: dict[str, Callable[..., ProxyNetwork]] = {
    "sync": lambda **options: SyncNet(None, **options),
    "image": ProxyImage,
    "video": ProxyVideo,
    "expression": ProxyExpression,
}


def new_proxy(kind: str, **options: Any) -> ProxyNetwork:
    """A network to be trained.

    Raises:
        KeyError: for an unknown kind.
    """
    return _BUILDERS[kind](**options)


def save_proxy(path: Path, network: nn.Module, info: ProxyInfo) -> None:
    """Writes one safetensors file, whole or not at all."""
    header = json.dumps({"version": VERSION, **asdict(info)}, sort_keys=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with whole_file(path) as partial:
        save_file(tensors, partial, metadata={HEADER: header})


def find_proxies(folder: Path, kind: str) -> list[Path]:
    """Files of one kind anywhere below a folder, under their present or their earlier name, sorted."""
    names = (f"proxy_{kind}.safetensors", f"standin_{kind}.safetensors")
    return sorted(path for name in names for path in folder.rglob(name))


def load_proxy(path: Path, kind: str) -> tuple[ProxyNetwork, ProxyInfo]:
    """The frozen network of a file that train.py wrote, and its info.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, of a newer version, or holds another kind of network.
    """
    wanted = f"a proxy that train.py experiment=proxy/{kind} wrote"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected {wanted}")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)
        version = header.pop("version")
        info = ProxyInfo(**header)
    except (SafetensorError, OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no proxy's info ({error}); expected {wanted}") from None
    if version > VERSION:
        raise ValueError(f"{path} is of version {version}, newer than this program reads; update emotivetalk")
    if info.kind != kind:
        raise ValueError(f"{path} holds a proxy for {info.kind}; expected {wanted}")
    network = new_proxy(kind, **info.options)
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
