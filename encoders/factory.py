"""Builds encoders by the names in the configuration.

A module is imported when its encoder is built, so that preset ``tiny`` needs no transformers, diffusers or mediapipe.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

from configs.errors import ConfigError
from configs.registries import ENCODERS
from encoders.protocols import AudioEncoder, Identity, LandmarkDetector, LatentCodec, MotionEncoder, TextEncoder


class EncoderError(ConfigError):
    """Raised if an encoder cannot be built as configured; the message names the key and the valid values."""


def build(kind: str, name: str, device: str, options: dict[str, Any]) -> Any:
    """Builds one encoder.

    Args:
        kind: Kind of encoder: landmarks, audio, motion, codec or text.
        name: Name in the configuration.
        device: Device of the network; ignored by encoders without this argument.
        options: Keyword arguments of the encoder's class.

    Raises:
        UnknownName: If no encoder is registered under ``name``.
        EncoderError: If an option is unknown or invalid, or if the name in the encoder's identity is not ``name``.
    """
    encoder = ENCODERS[kind].get(name, f"encoders.{kind}.name")
    accepted = dict(inspect.signature(encoder).parameters)
    takes_device = accepted.pop("device", None) is not None
    for option in options:
        if option not in accepted:
            known = ", ".join(accepted) or "none"
            raise EncoderError(f"encoders.{kind}.options.{option}: {name} has no such option; its options: {known}")
    try:
        made = encoder(**options, device=device) if takes_device else encoder(**options)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"encoders.{kind}.options={dict(options)}: {error}") from error
    if made.identity.name != name:  # the name stored in shards must find the encoder again
        raise EncoderError(
            f"encoders.{kind}: {name} has the name {made.identity.name!r} in its identity; make the names equal"
        )
    return made


def build_as(kind: str, identity: Identity, device: str = "cpu", model: str | None = None) -> Any:
    """Builds the encoder of a stored identity.

    Args:
        kind: Kind of encoder: landmarks, audio, motion, codec or text.
        identity: Identity stored in a checkpoint or an index.
        device: Device of the network.
        model: Folder of the network if it is not the published one.

    Raises:
        UnknownName: If no encoder is registered under the identity's name.
        EncoderError: If the available encoder has other options or weights.
    """
    made = ENCODERS[kind].get(identity.name, f"encoders.{kind}.name")
    options = {name: value for name, value in identity.options.items() if name in inspect.signature(made).parameters}
    if model is not None:
        options["model"] = model
    encoder = build(kind, identity.name, device, options)
    if encoder.identity != identity:
        raise EncoderError(
            f"encoders.{kind}: found {encoder.identity}, expected {identity}; put the weights with that hash into "
            "$EMOTIVETALK_WEIGHTS"
        )
    return encoder


def build_landmark_detector(name: str, device: str = "cpu", **options: Any) -> LandmarkDetector:
    """Builds the landmark detector ``name``; raises as ``build``."""
    return cast(LandmarkDetector, build("landmarks", name, device, options))


def build_audio_encoder(name: str, device: str = "cpu", **options: Any) -> AudioEncoder:
    """Builds the audio encoder ``name``; raises as ``build``."""
    return cast(AudioEncoder, build("audio", name, device, options))


def build_motion_encoder(name: str, device: str = "cpu", **options: Any) -> MotionEncoder:
    """Builds the motion encoder ``name``; raises as ``build``."""
    return cast(MotionEncoder, build("motion", name, device, options))


def build_codec(name: str, device: str = "cpu", **options: Any) -> LatentCodec:
    """Builds the latent codec ``name``; raises as ``build``."""
    return cast(LatentCodec, build("codec", name, device, options))


def build_text_encoder(name: str, device: str = "cpu", **options: Any) -> TextEncoder:
    """Builds the text encoder ``name``; raises as ``build``."""
    return cast(TextEncoder, build("text", name, device, options))
