"""Builds the encoder a configuration names.

A module is imported only when its encoder is built, so that preset tiny runs without transformers, diffusers or
mediapipe.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

from configs.errors import ConfigError
from configs.registries import ENCODERS
from encoders.protocols import AudioEncoder, Identity, LandmarkDetector, LatentCodec, MotionEncoder, TextEncoder


class EncoderError(ConfigError):
    """An encoder that cannot be built as configured; the message names the key and what there is."""


def build(kind: str, name: str, device: str, options: dict[str, Any]) -> Any:
    """Builds one encoder.

    Args:
        kind: landmarks, audio, motion, codec or text.
        name: its name in the configuration.
        device: where it runs; handed on to encoders that have a choice.
        options: keyword arguments of its class.

    Raises:
        UnknownName: for a name that nobody registered, with those there are.
        EncoderError: likewise for an option, or when the encoder's identity has another name than it is registered by.
    """
    encoder = ENCODERS[kind].get(name, f"encoders.{kind}.name")
    accepted = dict(inspect.signature(encoder).parameters)
    takes_device = accepted.pop("device", None) is not None
    for option in options:
        if option not in accepted:
            there_are = ", ".join(accepted) or "none"
            raise EncoderError(f"encoders.{kind}.options.{option}: {name} has no such option; there are: {there_are}")
    try:
        made = encoder(**options, device=device) if takes_device else encoder(**options)
    except (TypeError, ValueError) as error:
        raise EncoderError(f"encoders.{kind}.options={dict(options)}: {error}") from error
    if made.identity.name != name:  # shards would name an encoder that nobody finds again
        raise EncoderError(
            f"encoders.{kind}: {name} calls itself {made.identity.name!r} in its identity; make them equal"
        )
    return made


def build_as(kind: str, identity: Identity, device: str = "cpu", model: str | None = None) -> Any:
    """The encoder that made some features or was trained on, and no other.

    Args:
        kind: landmarks, audio, motion, codec or text.
        identity: as a checkpoint or an index names it.
        device: where it runs.
        model: folder of its network, for one that was trained on a user's own.

    Raises:
        UnknownName: when no registered encoder has the name.
        EncoderError: when the encoder that is here has other options or weights.
    """
    made = ENCODERS[kind].get(identity.name, f"encoders.{kind}.name")
    options = {name: value for name, value in identity.options.items() if name in inspect.signature(made).parameters}
    if model is not None:
        options["model"] = model
    encoder = build(kind, identity.name, device, options)
    if encoder.identity != identity:
        raise EncoderError(
            f"encoders.{kind}: {encoder.identity} is here, {identity} is needed; put the weights with that hash into "
            "$EMOTIVETALK_WEIGHTS"
        )
    return encoder


def build_landmark_detector(name: str, device: str = "cpu", **options: Any) -> LandmarkDetector:
    """The landmark detector called ``name``; see ``build`` for the errors."""
    return cast(LandmarkDetector, build("landmarks", name, device, options))


def build_audio_encoder(name: str, device: str = "cpu", **options: Any) -> AudioEncoder:
    """The audio encoder called ``name``; see ``build`` for the errors."""
    return cast(AudioEncoder, build("audio", name, device, options))


def build_motion_encoder(name: str, device: str = "cpu", **options: Any) -> MotionEncoder:
    """The motion encoder called ``name``; see ``build`` for the errors."""
    return cast(MotionEncoder, build("motion", name, device, options))


def build_codec(name: str, device: str = "cpu", **options: Any) -> LatentCodec:
    """The latent codec called ``name``; see ``build`` for the errors."""
    return cast(LatentCodec, build("codec", name, device, options))


def build_text_encoder(name: str, device: str = "cpu", **options: Any) -> TextEncoder:
    """The text encoder called ``name``; see ``build`` for the errors."""
    return cast(TextEncoder, build("text", name, device, options))
