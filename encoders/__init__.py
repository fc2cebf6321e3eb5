"""Frozen encoders, the five protocols they implement, and their pretrained weights."""

from encoders.factory import (
    build_audio_encoder,
    build_codec,
    build_landmark_detector,
    build_motion_encoder,
    build_text_encoder,
)

__all__ = [
    "build_audio_encoder",
    "build_codec",
    "build_landmark_detector",
    "build_motion_encoder",
    "build_text_encoder",
]
