"""The four frozen encoders of preparation, built from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from configs.preparation import EncodersConfig
from datamodules.schema import Dimensions
from encoders.factory import (
    EncoderError,
    build_audio_encoder,
    build_codec,
    build_landmark_detector,
    build_motion_encoder,
)
from encoders.protocols import AudioEncoder, Identity, LandmarkDetector, LatentCodec, MotionEncoder


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
            made: Outputs for one clip: latent, audio, lip and expression.
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
        for name, (kind, shape) in expected.items():
            found = made[name]
            if not isinstance(found, Tensor) or tuple(found.shape) != shape:
                kind_found = f"a tensor of {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
                raise EncoderError(
                    f"encoders.{kind}: {self.identities()[kind].name} returned {kind_found} as {name} of a clip of "
                    f"{frames} frames, expected a tensor of {shape}; see encoders/protocols.py"
                )
