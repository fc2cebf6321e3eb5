"""Frozen pretrained models behind four protocols, and the registry of their weights."""

from encoders.factory import build_audio_encoder, build_codec, build_landmark_detector, build_motion_encoder

__all__ = ["build_audio_encoder", "build_codec", "build_landmark_detector", "build_motion_encoder"]
