"""What a checkpoint of ETHD says about itself, and the network it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from configs.training import EthdConfig, Prediction, UNetConfig, Variant
from datamodules.schema import Dimensions
from diffusion.schedules import NoiseSchedule, zero_terminal_schedule
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, checkpoint_file, read_checkpoint
from lightning_modules.ethd.latents import LatentScale
from lightning_modules.ethd.network import Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape

STAGE = "ethd"
EMA = "ema"  # key of a checkpoint: {"weights": {name in Ethd: float32}, "updates": how many steps are in them}


@dataclass(frozen=True)
class EthdInfo:
    """What a checkpoint of ETHD says about itself; everything but weights that is needed to use it.

    Attributes:
        config: of the network and its training; ``overlap`` is always a number.
        dimensions: of the data it was trained on.
        encoders: identities of audio, motion, codec and landmarks encoders of that data.
        frame_side: pixels of the square frames; unit of the boxes.
        latents: how the codec's latents are scaled.
        vaid: where the V-AID that drove it stood.
        vaid_sha256: of that file.
    """

    config: EthdConfig
    dimensions: Dimensions
    encoders: dict[str, Identity]
    frame_side: int
    latents: LatentScale
    vaid: str
    vaid_sha256: str

    def plain(self) -> dict[str, Any]:
        """The info as a checkpoint stores it: plain types only."""
        return {"stage": STAGE, **asdict(self)}

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> EthdInfo:
        """The info from its plain form."""
        latents = raw["latents"]
        return cls(
            config=ethd_config(raw["config"]),
            dimensions=Dimensions(**raw["dimensions"]),
            encoders={kind: Identity(**identity) for kind, identity in raw["encoders"].items()},
            frame_side=raw["frame_side"],
            latents=LatentScale(tuple(latents["mean"]), tuple(latents["std"]), latents["raw_reference"]),
            vaid=raw["vaid"],
            vaid_sha256=raw["vaid_sha256"],
        )


def unet_shape(config: EthdConfig, dimensions: Dimensions) -> UNetShape:
    """Widths and depths of a configuration's U-Net for the data's latents."""
    unet = config.unet
    return UNetShape(
        in_channels=2 * dimensions.latent_channels,
        out_channels=dimensions.latent_channels,
        channels=tuple(unet.channels),
        heads=tuple(unet.heads),
        attention=tuple(unet.attention),
        layers=unet.layers,
        token_width=unet.token_width,
        added_width=unet.added_width,
    )


def build_ethd(config: EthdConfig, dimensions: Dimensions, frame_side: int) -> Ethd:
    """The network of a configuration, with fresh weights.

    Args:
        config: sizes and options.
        dimensions: widths of the data's features.
        frame_side: pixels of the square frames.
    """
    widths = SignalWidths(
        dimensions.lip_width, dimensions.expression_width, dimensions.audio_layers, dimensions.audio_width
    )
    return Ethd(
        unet_shape(config, dimensions),
        widths,
        frame_side,
        cast(Variant, config.variant),
        share_weights=config.share_weights,
        checkpointing=config.checkpointing,
        prediction=cast(Prediction, config.prediction),
    )


def noise_schedule(config: EthdConfig) -> NoiseSchedule:
    """The schedule a network is trained and sampled with."""
    return zero_terminal_schedule(config.diffusion_steps, shift=config.noise_shift)


def with_overlap(config: EthdConfig) -> EthdConfig:
    """The configuration with its overlap as a number: a fifth of the window where none is given."""
    return config if config.overlap is not None else replace(config, overlap=round(config.window / 5))


def ethd_config(raw: Mapping[str, Any]) -> EthdConfig:
    """The configuration from its plain form in a checkpoint."""
    return EthdConfig(**{**raw, "unet": UNetConfig(**raw["unet"])})


def load_ethd(path: str | Path) -> tuple[Ethd, EthdInfo]:
    """The trained network with its averaged weights where there are any, frozen and in eval mode, on the CPU.

    Args:
        path: a checkpoint, or a run directory for its last.

    Raises:
        CheckpointError: when the file is missing, damaged or of another stage.
    """
    checkpoint = read_checkpoint(checkpoint_file(path), STAGE)
    info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
    ethd = build_ethd(info.config, info.dimensions, info.frame_side)
    ethd.load_state_dict(weights_of(checkpoint))
    return ethd.eval().requires_grad_(False), info


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The network's weights in a checkpoint, averaged where there is an average, float32."""
    if EMA in checkpoint:
        return dict(checkpoint[EMA]["weights"])
    prefix = "ethd."
    return {
        name.removeprefix(prefix): weight.float()
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
