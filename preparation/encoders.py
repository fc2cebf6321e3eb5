"""The four frozen encoders of a run, built together from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from configs.schema import EncodersConfig
from datamodules.schema import Dimensions
from encoders.factory import build_audio_encoder, build_codec, build_landmark_detector, build_motion_encoder
from encoders.protocols import AudioEncoder, Identity, LandmarkDetector, LatentCodec, MotionEncoder


@dataclass(frozen=True)
class Encoders:
    """The four frozen encoders a run uses."""

    landmarks: LandmarkDetector
    audio: AudioEncoder
    motion: MotionEncoder
    codec: LatentCodec

    @classmethod
    def build(cls, config: EncodersConfig, device: str) -> Encoders:
        """Loads them; see ``encoders.weights`` for where their weights come from."""
        return cls(
            landmarks=build_landmark_detector(config.landmarks.name, device=device, **config.landmarks.options),
            audio=build_audio_encoder(config.audio.name, device=device, **config.audio.options),
            motion=build_motion_encoder(config.motion.name, device=device, **config.motion.options),
            codec=build_codec(config.codec.name, device=device, **config.codec.options),
        )

    def identities(self) -> dict[str, Identity]:
        """Who they are, for index.json."""
        return {
            "audio": self.audio.identity,
            "motion": self.motion.identity,
            "codec": self.codec.identity,
            "landmarks": self.landmarks.identity,
        }

    def dimensions(self, frame_size: int) -> Dimensions:
        """The sizes every sample will have."""
        return Dimensions(
            latent_channels=self.codec.channels,
            latent_size=frame_size // self.codec.downscale,
            audio_layers=self.audio.layers,
            audio_width=self.audio.width,
            lip_width=self.motion.lip_width,
            expression_width=self.motion.expression_width,
        )
