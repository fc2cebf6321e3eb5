"""TAEF2: a tiny convolutional autoencoder in the latent space of FLUX.2's, by madebyollin (MIT).

Pixels are in [0, 1], latents within about [-3, 3]; frames are coded one by one.

Shapes: F frames, C = 32 latent channels, h x w = H / 8 x W / 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from encoders.codecs.pixels import check_frames
from encoders.protocols import Identity
from encoders.weights import WrongWeights, load_pickle, locate
from runtime.files import sha256_of

WIDTH = 64
CHANNELS = 32
PIXELS_AT_ONCE = 2 * 512 * 512  # some 400 MiB of activations


class SoftClamp(nn.Module):
    """Keeps latents within +-3, smoothly."""

    def forward(self, latents: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return 3 * torch.tanh(latents / 3)


class TaefBlock(nn.Module):
    """Three convolutions and a skip connection; with ``pooled``, a branch normalised over the picture comes first.

    Args:
        pooled: whether the block sees statistics of the whole picture, as those at the lowest resolution do.
    """

    def __init__(self, pooled: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(conv(), nn.ReLU(), conv(), nn.ReLU(), conv())
        self.pool = (
            nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1, bias=False),
                nn.GroupNorm(4, 4 * WIDTH),
                nn.ReLU(),
                nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False),
            )
            if pooled
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(F, 64, H, W) -> (F, 64, H, W)."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def conv(width_in: int = WIDTH, width_out: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps the size, or divides it by ``stride``."""
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=bias)


def build_encoder() -> nn.Sequential:
    """(F, 3, H, W) in [0, 1] -> (F, 32, H / 8, W / 8); module names are the checkpoint's."""
    layers: list[nn.Module] = [conv(3), TaefBlock()]
    for pooled in (False, False, True):
        layers += [conv(stride=2, bias=False), *(TaefBlock(pooled) for _ in range(3))]
    return nn.Sequential(*layers, conv(width_out=CHANNELS))


def build_decoder() -> nn.Sequential:
    """(F, 32, h, w) -> (F, 3, 8 h, 8 w) about [0, 1]; module names are the checkpoint's."""
    layers: list[nn.Module] = [SoftClamp(), conv(CHANNELS), nn.ReLU()]
    for pooled in (True, False, False):
        layers += [*(TaefBlock(pooled) for _ in range(3)), nn.Upsample(scale_factor=2), conv(bias=False)]
    return nn.Sequential(*layers, TaefBlock(), conv(width_out=3))


class TAEF2Codec:
    """Tiny autoencoder with 32 channels at an eighth of the size.

    Args:
        device: where the networks run; frames and latents come back on the CPU.

    Raises:
        MissingWeights: when a checkpoint is nowhere and cannot be fetched.
        WrongWeights: when a checkpoint does not fit the architecture.
    """

    channels = CHANNELS
    downscale = 8
    scale = 1.0  # latents of faces have a standard deviation of 0.75 to 1.0 as they are

    def __init__(self, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.encoder = self._load("taef2_encoder", build_encoder())
        self.decoder = self._load("taef2_decoder", build_decoder())
        files = [locate("taef2_encoder"), locate("taef2_decoder")]
        self.identity = Identity("taef2", {}, {file.name: sha256_of(file) for file in files})

    def _load(self, name: str, network: nn.Sequential) -> nn.Sequential:
        path = locate(name)
        try:
            network.load_state_dict(load_pickle(path), strict=True)
        except (RuntimeError, AttributeError) as error:
            raise WrongWeights(f"{path}: does not fit TAEF2's architecture: {str(error).strip()[:300]}") from error
        # Channels last: the same numbers, 1.4 times as fast on a CPU.
        network.to(memory_format=torch.channels_last)
        return network.float().eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB -> (F, 32, H / 8, W / 8) float32.

        Raises:
            ValueError: when the frames have another shape or type, or H or W is not a multiple of 8.
        """
        check_frames(frames, self.downscale)
        pieces = frames.split(max(1, PIXELS_AT_ONCE // frames[0, 0].numel()))
        return torch.cat([self.encoder(self._on_device(piece) / 255).cpu() for piece in pieces])

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """(F, 32, h, w) -> (F, 3, 8 h, 8 w) uint8 RGB."""
        return torch.cat(list(self.decode_stream(latents)))

    def decode_stream(self, latents: Tensor) -> Iterator[Tensor]:
        """Decodes as ``decode`` does, a piece at a time."""
        pieces = latents.split(max(1, PIXELS_AT_ONCE // (64 * latents[0, 0].numel())))
        return (self._decode(piece) for piece in pieces)

    @torch.inference_mode()
    def _decode(self, latents: Tensor) -> Tensor:
        return (self.decoder(self._on_device(latents)) * 255).round().clamp(0, 255).byte().cpu()

    def _on_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, torch.float32, memory_format=torch.channels_last)
