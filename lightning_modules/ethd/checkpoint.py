"""Loading ETHD checkpoints: the network, and the information needed to build and use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from configs.models import EthdConfig, Prediction, UNetConfig, Variant
from datamodules.schema import Dimensions
from diffusion.schedules import NoiseSchedule, zero_terminal_schedule
from encoders.protocols import Identity
from lightning_modules.checkpoints import CHECKPOINT_INFO, EMA, CheckpointError, checkpoint_file, read_checkpoint
from lightning_modules.ethd.latents import LatentScale
from lightning_modules.ethd.network import Ethd, SignalWidths
from lightning_modules.ethd.unet import UNetShape

STAGE = "ethd"
TRAINED_WINDOWS = "trained_windows"  # checkpoint key: {length of a window: frames trained in windows of that length}

# Keys of earlier versions that changed the training only -> the value that trains as now, None for any.
# condition_dropout dropped lips and expression together; mask_source chose the boxes of training.
EARLIER_KEYS = {"svd": None, "condition_dropout": 0.0, "mask_source": "reference"}


@dataclass(frozen=True)
class EthdInfo:
    """Everything except the weights that is needed to use an ETHD checkpoint.

    Attributes:
        config: Configuration of the network and its training; ``overlap`` is never None.
        dimensions: Feature widths of the training data.
        encoders: Identities of the audio, motion, codec and landmarks encoders of the training data.
        frame_side: Side of the square frames in pixels; unit of the boxes.
        latents: Scaling of the codec's latents.
        vaid: Path from which the V-AID of the training was copied into the run directory.
        vaid_sha256: SHA-256 of that file.
    """

    config: EthdConfig
    dimensions: Dimensions
    encoders: dict[str, Identity]
    frame_side: int
    latents: LatentScale
    vaid: str
    vaid_sha256: str

    def plain(self) -> dict[str, Any]:
        """The same as plain types, as stored in a checkpoint."""
        return {"stage": STAGE, **asdict(self)}

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> EthdInfo:
        """Builds an instance from the result of ``plain``."""
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
    """Shape of the configured U-Net for the latents of the data."""
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
    """Builds the configured network with newly initialised weights.

    Args:
        config: Configuration of the network.
        dimensions: Feature widths of the data.
        frame_side: Side of the square frames in pixels.
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
    """Noise schedule for training and sampling."""
    return zero_terminal_schedule(config.diffusion_steps, shift=config.noise_shift)


def with_overlap(config: EthdConfig) -> EthdConfig:
    """The configuration with its overlap resolved: a fifth of the window if it is None."""
    return config if config.overlap is not None else replace(config, overlap=round(config.window / 5))


def check_earlier(raw: Mapping[str, Any], name: str) -> None:
    """Checks that a run of an earlier version can go on as it was trained.

    Args:
        raw: Configuration in its checkpoint.
        name: Name of the checkpoint, for the message.

    Raises:
        CheckpointError: If it used an option that there is no longer.
    """
    used = [key for key, now in EARLIER_KEYS.items() if now is not None and raw.get(key, now) != now]
    if used:
        raise CheckpointError(
            f"{name}: was trained with {', '.join(f'model.{key}={raw[key]}' for key in used)}, which this version does "
            "not have; start a new run from its weights with init=RUN"
        )


def ethd_config(raw: Mapping[str, Any]) -> EthdConfig:
    """Builds the configuration from its plain form in a checkpoint."""
    known = {name: value for name, value in raw.items() if name not in EARLIER_KEYS}
    return EthdConfig(**{**known, "unet": UNetConfig(**raw["unet"])})


def load_ethd(path: str | Path) -> tuple[Ethd, EthdInfo]:
    """Loads a trained network on the CPU, frozen and in eval mode, with averaged (EMA) weights if there are any.

    Args:
        path: Checkpoint, or run directory for its last checkpoint.

    Returns:
        The network and its checkpoint information.

    Raises:
        CheckpointError: If the file is missing, damaged or of another stage.
    """
    checkpoint = read_checkpoint(checkpoint_file(path), STAGE)
    info = EthdInfo.read(checkpoint[CHECKPOINT_INFO])
    ethd = build_ethd(info.config, info.dimensions, info.frame_side)
    ethd.load_state_dict(weights_of(checkpoint))
    return ethd.eval().requires_grad_(False), info


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The network's float32 weights in a checkpoint: the EMA if there is one, else the trained weights."""
    if EMA in checkpoint:
        return dict(checkpoint[EMA]["weights"])
    prefix = "ethd."
    return {
        name.removeprefix(prefix): weight.float()
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(prefix)
    }
