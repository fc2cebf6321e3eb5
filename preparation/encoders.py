"""The four frozen encoders of preparation, built from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.preparation import EncodersConfig
from configs.registries import ENCODERS
from datamodules.schema import Dimensions
from encoders.factory import (
    EncoderError,
    build_audio_encoder,
    build_codec,
    build_landmark_detector,
    build_motion_encoder,
)
from encoders.protocols import AudioEncoder, Identity, LandmarkDetector, LatentCodec, MotionEncoder


def encode_latents(codec: LatentCodec, frames: Tensor, bfloat16: bool) -> Tensor:
    """Encodes (F, 3, H, W) uint8 frames to (F, C, h, w) float32, with products in bfloat16 if wanted."""
    if not bfloat16:
        return codec.encode(frames)
    if hasattr(codec, "encode_bfloat16"):
        latents: Tensor = codec.encode_bfloat16(frames)
        return latents
    device = torch.device(getattr(codec, "device", "cpu"))
    with torch.autocast(device.type, torch.bfloat16):
        return codec.encode(frames).float()


def encode_within(
    codec: LatentCodec, frames: Tensor, precision: str, tolerance: float
) -> tuple[Tensor, str, float | None]:
    """Encodes a clip in bfloat16 where its latents stay within a tolerance of those in float32.

    The frame in the middle is encoded in both. The error is the root mean square of the difference, relative to that of
    the latents.

    Args:
        codec: Codec.
        frames: (F, 3, H, W) uint8 frames.
        precision: ``float32`` or ``bfloat16``.
        tolerance: Largest error; a clip with a larger one is encoded in float32.

    Returns:
        (F, C, h, w) float32 latents, the precision that was used, and the error in bfloat16, or None.
    """
    if precision == "float32":
        return codec.encode(frames), "float32", None
    probe = frames[len(frames) // 2 :][:1]
    exact = codec.encode(probe)
    difference = encode_latents(codec, probe, bfloat16=True) - exact
    error = round(float((difference.square().mean() / exact.square().mean().clamp_min(1e-12)).sqrt()), 6)
    within = error <= tolerance  # False for NaN
    return encode_latents(codec, frames, within), "bfloat16" if within else "float32", error


def announced_dimensions(config: EncodersConfig, frame_size: int) -> Dimensions | None:
    """Array sizes of the samples by the classes of the encoders alone, which reads no weights.

    Returns:
        The sizes; None if an encoder does not announce all of its own.
    """
    sizes: dict[str, int] = {}
    for kind in ("audio", "motion", "codec"):
        chosen = getattr(config, kind)
        announce = getattr(ENCODERS[kind].get(chosen.name, f"encoders.{kind}.name"), "announced", None)
        try:
            sizes |= announce(**chosen.options) if announce is not None else {}
        except TypeError:  # of an unknown option, which building the encoder names
            return None
    try:
        return Dimensions(
            latent_channels=sizes["channels"],
            latent_size=frame_size // sizes["downscale"],
            audio_layers=sizes["layers"],
            audio_width=sizes["width"],
            lip_width=sizes["lip_width"],
            expression_width=sizes["expression_width"],
        )
    except KeyError:
        return None


@dataclass(frozen=True)
class Encoders:
    """The four frozen encoders: landmark detector, audio encoder, motion encoder and latent codec."""

    landmarks: LandmarkDetector
    audio: AudioEncoder
    motion: MotionEncoder
    codec: LatentCodec

    @classmethod
    def build(cls, config: EncodersConfig, device: str) -> Encoders:
        """Builds all encoders on ``device``; ``encoders.weights`` describes where their weights come from."""
        return cls(
            landmarks=build_landmark_detector(config.landmarks.name, device=device, **config.landmarks.options),
            audio=build_audio_encoder(config.audio.name, device=device, **config.audio.options),
            motion=build_motion_encoder(config.motion.name, device=device, **config.motion.options),
            codec=build_codec(config.codec.name, device=device, **config.codec.options),
        )

    def identities(self) -> dict[str, Identity]:
        """Returns the identity of each encoder, as stored in ``index.json``."""
        return {
            "audio": self.audio.identity,
            "motion": self.motion.identity,
            "codec": self.codec.identity,
            "landmarks": self.landmarks.identity,
        }

    def dimensions(self, frame_size: int) -> Dimensions:
        """Returns the array sizes of every sample for crops of side ``frame_size`` pixels."""
        return Dimensions(
            latent_channels=self.codec.channels,
            latent_size=frame_size // self.codec.downscale,
            audio_layers=self.audio.layers,
            audio_width=self.audio.width,
            lip_width=self.motion.lip_width,
            expression_width=self.motion.expression_width,
        )

    def require_announced(self, made: Mapping[str, Tensor], frames: int, frame_size: int) -> None:
        """Checks that the encoders' outputs have the sizes that ``dimensions`` announces.

        Args:
            made: Outputs for one clip: latent, lip, expression, and audio where it is stored.
            frames: Number of frames of the clip.
            frame_size: Side of the crop, pixels.

        Raises:
            EncoderError: If a shape differs. The encoder is at fault, not the clip, so preparation stops.
        """
        size = self.dimensions(frame_size)
        expected = {
            "audio": ("audio", (frames, size.audio_layers, size.audio_width)),
            "lip": ("motion", (frames, size.lip_width)),
            "expression": ("motion", (frames, size.expression_width)),
            "latent": ("codec", (frames, size.latent_channels, size.latent_size, size.latent_size)),
        }
        for name, found in made.items():
            kind, shape = expected[name]
            if not isinstance(found, Tensor) or tuple(found.shape) != shape:
                kind_found = f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                raise EncoderError(
                    f"encoders.{kind}: {self.identities()[kind].name} returned {kind_found} as {name} of a clip of "
                    f"{frames} frames, expected a tensor of {shape}; see encoders/protocols.py"
                )
