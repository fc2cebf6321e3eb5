"""TAEF2: a tiny convolutional autoencoder for the latent space of FLUX.2, by madebyollin (MIT).

Pixels are in [0, 1], latents in about [-3, 3]. Each frame is coded independently.

Shapes: F frames, C = 32 latent channels, h x w = H / 8 x W / 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from encoders.codecs.arriving import ArrivingLatents
from encoders.codecs.pixels import check_frames
from encoders.protocols import Identity
from encoders.weights import WrongWeights, load_pickle, locate
from runtime.files import sha256_of

WIDTH = 64
CHANNELS = 32
PIXELS_AT_ONCE = 2 * 512 * 512  # about 400 MiB of activations


class SoftClamp(nn.Module):
    """Limits latents smoothly to (-3, 3)."""

    def forward(self, latents: Tensor) -> Tensor:
        """Applies 3 tanh(latents / 3) to latents of any shape."""
        return 3 * torch.tanh(latents / 3)


class TaefBlock(nn.Module):
    """Three convolutions with a skip connection, optionally after a branch with group normalisation.

    Args:
        pooled: Adds the branch, whose group normalisation uses statistics of the whole picture; used at the lowest
            resolution.
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
        """Maps (F, 64, H, W) to the same shape."""
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


def conv(width_in: int = WIDTH, width_out: int = WIDTH, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    """Builds a 3 x 3 convolution that divides height and width by ``stride``."""
    return nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=bias)


def build_encoder() -> nn.Sequential:
    """Builds the encoder, (F, 3, H, W) in [0, 1] to (F, 32, H / 8, W / 8), with the checkpoint's module names."""
    layers: list[nn.Module] = [conv(3), TaefBlock()]
    for pooled in (False, False, True):
        layers += [conv(stride=2, bias=False), *(TaefBlock(pooled) for _ in range(3))]
    return nn.Sequential(*layers, conv(width_out=CHANNELS))


def build_decoder() -> nn.Sequential:
    """Builds the decoder, (F, 32, h, w) to (F, 3, 8 h, 8 w) in about [0, 1], with the checkpoint's module names."""
    layers: list[nn.Module] = [SoftClamp(), conv(CHANNELS), nn.ReLU()]
    for pooled in (True, False, False):
        layers += [*(TaefBlock(pooled) for _ in range(3)), nn.Upsample(scale_factor=2), conv(bias=False)]
    return nn.Sequential(*layers, TaefBlock(), conv(width_out=3))


class TAEF2Codec:
    """``LatentCodec`` with 32 channels at 1/8 of the resolution.

    Args:
        device: Device of the networks; frames and latents are returned on the CPU.

    Raises:
        MissingWeights: If a checkpoint is not found and cannot be downloaded.
        WrongWeights: If a checkpoint does not fit the architecture.
    """

    channels = CHANNELS
    downscale = 8
    scale = 1.0  # unscaled latents of faces already have a standard deviation of 0.75 to 1.0

    @staticmethod
    def announced() -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"channels": CHANNELS, "downscale": 8}

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
        # Channels-last layout gives equal values and is 1.4 times as fast on a CPU.
        network.to(memory_format=torch.channels_last)
        return network.float().eval().requires_grad_(False).to(self.device)

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (F, 3, H, W) uint8 RGB to (F, 32, H / 8, W / 8) float32.

        Raises:
            ValueError: If the frames have another shape or type, or H or W is not a multiple of 8.
        """
        check_frames(frames, self.downscale)
        pieces = frames.split(max(1, PIXELS_AT_ONCE // frames[0, 0].numel()))
        return torch.cat([self.encoder(self._on_device(piece) / 255).cpu() for piece in pieces])

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, 32, h, w) to (F, 3, 8 h, 8 w) uint8 RGB."""
        return torch.cat(list(self.decode_stream([latents], len(latents))))

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` in pieces, see ``LatentCodec.decode_stream``."""
        arriving = ArrivingLatents(latents)
        size = max(1, PIXELS_AT_ONCE // (64 * arriving.frame[0].numel()))
        yield from map(self._decode, arriving.parts(total, min(size, at_once or size)))

    @torch.inference_mode()
    def _decode(self, latents: Tensor) -> Tensor:
        return (self.decoder(self._on_device(latents)) * 255).round().clamp(0, 255).byte().cpu()

    def _on_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, torch.float32, memory_format=torch.channels_last)
