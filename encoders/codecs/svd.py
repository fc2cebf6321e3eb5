"""Autoencoder of Stable Video Diffusion (SVD, arXiv 2311.15127): encodes single frames, decodes with temporal layers.

The decoder normalises over all frames of a call, so decoding in chunks differs from decoding all frames at once. Fixed
chunks with cross-fades make the result independent of the length of the clip.

Shapes: F frames, C = 4 latent channels, h x w = H / 8 x W / 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encoders.codecs.arriving import ArrivingLatents
from encoders.codecs.pixels import check_frames, from_signed, to_signed
from encoders.protocols import Identity
from encoders.weights import WrongWeights, model_folder
from runtime.files import sha256_of

CHUNK, FADE = 16, 4  # frames decoded together, and frames shared with the next chunk
PIXELS_AT_ONCE = {"cpu": 512 * 512, "cuda": 8 * 512 * 512}  # a 512 px frame takes 0.7 GiB in float32
WEIGHT_FILE = "diffusion_pytorch_model.safetensors"


class SVDCodec:
    """``LatentCodec`` of preset ``paper``: 4 channels at 1/8 of the resolution.

    Args:
        model: ``svd`` for the published weights, or a folder in diffusers' format.
        device: Device of the network; frames and latents are returned on the CPU.

    Raises:
        MissingWeights: If the weights are not found and cannot be downloaded.
        WrongWeights: If the files are not the published ones or not an SVD autoencoder.
        ValueError: If ``model`` is neither ``svd`` nor a folder with a model.
    """

    @staticmethod
    def announced(model: str = "svd") -> dict[str, int]:
        """Sizes of the latents; none for a model in a folder, without building an encoder."""
        return {"channels": 4, "downscale": 8} if model == "svd" else {}

    def __init__(self, model: str = "svd", device: str = "cpu") -> None:
        folder = model_folder(model, "svd-vae", "svd", "encoders.codec.options.model")
        self.network = load_network(folder)
        self.device = torch.device(device)
        self.network.to(self.device)
        self.channels = int(self.network.config.latent_channels)
        self.downscale = 2 ** (len(self.network.config.block_out_channels) - 1)
        self.scale = float(self.network.config.scaling_factor)
        self.identity = Identity("svd", {}, {WEIGHT_FILE: sha256_of(folder / WEIGHT_FILE)})

    @torch.inference_mode()
    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (F, 3, H, W) uint8 RGB to (F, 4, H / 8, W / 8) float32: the mode of the posterior, unscaled.

        Raises:
            ValueError: If the frames have another shape or type, or H or W is not a multiple of 8.
        """
        check_frames(frames, self.downscale)
        at_once = PIXELS_AT_ONCE.get(self.device.type, PIXELS_AT_ONCE["cpu"])
        pieces = frames.split(max(1, at_once // frames[0, 0].numel()))
        return torch.cat([self._encode(piece) for piece in pieces])

    def _encode(self, frames: Tensor) -> Tensor:
        return self.network.encode(to_signed(frames.to(self.device))).latent_dist.mode().cpu()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, 4, h, w) unscaled latents to (F, 3, 8 h, 8 w) uint8 RGB."""
        return torch.cat(list(self.decode_stream([latents], len(latents))))

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` as soon as they are final, so that memory stays bounded.

        Args:
            latents: (n, 4, h, w) unscaled latents of consecutive frames, in pieces of any length.
            total: F.
            at_once: Frames of a chunk; None for ``CHUNK``. Another number gives other pixels, since the decoder
                normalises over a chunk.
        """
        size, arriving = min(CHUNK, at_once or CHUNK), ArrivingLatents(latents)
        tail: Tensor | None = None  # decoded frames that the next chunk shares
        starts = chunk_starts(total, size)
        for start, following in zip(starts, [*starts[1:], total], strict=True):
            part = arriving.take(start, min(start + size, total))
            with torch.inference_mode():
                decoded = self._decode(part)
                if tail is not None:
                    weight = torch.arange(1, len(tail) + 1)[:, None, None, None] / (len(tail) + 1)
                    decoded[: len(tail)] = torch.lerp(tail, decoded[: len(tail)], weight)
                frames, tail = from_signed(decoded[: following - start]), decoded[following - start :]
            yield frames

    def _decode(self, latents: Tensor) -> Tensor:
        """Decodes T frames together: (T, 4, h, w) to (T, 3, H, W) float32 on the CPU."""
        values = latents.to(self.device, torch.float32)
        return self.network.decode(values, num_frames=len(latents)).sample.cpu()


def chunk_starts(frames: int, size: int = CHUNK) -> list[int]:
    """Returns the first frames of the decoded chunks.

    Chunks have ``size`` frames and share at least a quarter of them with the next (``FADE`` of ``CHUNK``); the last one
    ends with the clip. A clip of up to ``size`` frames is a single chunk.
    """
    if frames <= size:
        return [0]
    return [*range(0, frames - size, size - size * FADE // CHUNK), frames - size]


def load_network(folder: Path) -> Any:
    """Loads the frozen network from a folder in diffusers' format, in float32: float16 overflows (``force_upcast``).

    Raises:
        WrongWeights: If tensors are missing or have other shapes.
    """
    from diffusers import AutoencoderKLTemporalDecoder

    try:
        network, info = AutoencoderKLTemporalDecoder.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32, output_loading_info=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise WrongWeights(f"{folder}: is not an AutoencoderKLTemporalDecoder: {str(error).strip()[:300]}") from error
    if info["missing_keys"]:
        raise WrongWeights(
            f"{folder / WEIGHT_FILE}: is not an AutoencoderKLTemporalDecoder: {len(info['missing_keys'])} tensors are "
            f"missing, e.g. {min(info['missing_keys'])}"
        )
    return network.eval().requires_grad_(False)
