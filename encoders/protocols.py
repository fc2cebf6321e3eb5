"""Protocols of the five kinds of frozen encoders, and the records of faces they exchange.

Shapes: F frames at 25 fps, H x W pixels, P landmarks, L layers, D audio width, d_l and d_e lip and expression widths,
C latent channels, h x w latent size, B texts, D_t text width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor  # not imported at run time: programs without torch use the records

FPS = 25
SAMPLE_RATE = 16_000

LandmarkScheme = Literal["ibug68", "mediapipe478"]
LANDMARK_COUNTS: dict[str, int] = {"ibug68": 68, "mediapipe478": 478}


@dataclass(frozen=True)
class Identity:
    """Identity of an encoder. Shards and checkpoints of different identities cannot be combined.

    Attributes:
        name: Name of the encoder in the configuration, e.g. ``mel``.
        options: Options that change the output.
        weights: File name -> sha256 of every weight file.
    """

    name: str
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Face:
    """One face in one image.

    Attributes:
        landmarks: (P, 2) float32, x and y in pixels of the image; may lie outside the image.
        blendshapes: (52,) float32 scores in [0, 1] in MediaPipe's order; None if the detector has none.
        depth: (P,) float32 z of the landmarks, pixels, smaller is nearer; None if it was not asked for.
        rotation: (3, 3) float32 from the head's axes (right, up, to the front) to the camera's; None likewise.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray | None = None
    depth: np.ndarray | None = None
    rotation: np.ndarray | None = None


@dataclass(frozen=True)
class Tracking:
    """Detections of a landmark detector in a clip.

    Attributes:
        faces: Face of the speaker in every frame, None where it was not found.
        several: Share in [0, 1] of the checked frames with a second face of comparable size.
        size: (width, height) of the frames, pixels.
    """

    faces: list[Face | None]
    several: float
    size: tuple[int, int]


@dataclass(frozen=True)
class FaceTrack:
    """Face of the speaker in every frame of a clip, without gaps.

    Attributes:
        landmarks: (F, P, 2) float32 in pixels of the frames.
        scheme: Landmark scheme of the P points.
        detected: (F,) bool, False where the landmarks are interpolated.
        blendshapes: (F, 52) float32 scores; None if the detector has none.
    """

    landmarks: np.ndarray
    scheme: LandmarkScheme
    detected: np.ndarray
    blendshapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.landmarks)

    def cropped(self, left: float, top: float, scale: float) -> FaceTrack:
        """Maps the track into a crop that starts at (left, top) and is resized by ``scale``.

        Pixel centres are at half-integers, so a crop box [left, left + side) maps to [0, side * scale).
        """
        moved = (self.landmarks - np.array([left, top], np.float32)) * np.float32(scale)
        return FaceTrack(moved, self.scheme, self.detected, self.blendshapes)


class LandmarkDetector(Protocol):
    """Detects faces and their landmarks.

    Attributes:
        identity: Identity stored with the features.
        scheme: Landmark scheme of the detected points.
    """

    identity: Identity
    scheme: LandmarkScheme

    def detect(self, image: np.ndarray) -> list[Face]:
        """Detects all faces in an (H, W, 3) uint8 RGB image, the largest first."""
        ...

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Tracks the speaker's face through a clip.

        Args:
            frames: (H, W, 3) uint8 RGB frames at 25 fps, read once, one at a time.
            video: File that the frames come from; a sidecar detector reads the landmark file next to it.
            start: Time of the first frame in the file, seconds.
        """
        ...


class AudioEncoder(Protocol):
    """Encodes speech to features of every video frame.

    Attributes:
        identity: Identity stored with the features.
        layers: Number of layers L.
        width: Audio width D.
    """

    identity: Identity
    layers: int
    width: int

    def __call__(self, samples: Tensor) -> Tensor:
        """Encodes (S,) float32 mono at 16 kHz in [-1, 1] to (F, L, D) float32, F = ceil(S * 25 / 16000)."""
        ...


class MotionEncoder(Protocol):
    """Encodes face crops to a lip latent and an expression latent.

    An encoder whose expression latent has eyelids says so with an attribute ``eyelids``: dimension of the expression
    latent -> its value with closed eyes. ``generate.py motion.blinks=`` needs it.

    Attributes:
        identity: Identity stored with the latents.
        lip_width: Width d_l of the lip latent.
        expression_width: Width d_e of the expression latent.
    """

    identity: Identity
    lip_width: int
    expression_width: int

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """Encodes the crops of a clip.

        Args:
            frames: (F, H, W, 3) uint8 RGB crops.
            track: Face track in pixels of the crops.

        Returns:
            Lip (F, d_l) and expression (F, d_e) latents, float32, not standardised.
        """
        ...


class LatentCodec(Protocol):
    """Encodes frames to latents and decodes them.

    Attributes:
        identity: Identity stored with the latents.
        channels: Number of latent channels C.
        downscale: Ratio H / h.
        scale: Factor from the stored, unscaled latents to those of the diffusion model (svd: 0.18215).
    """

    identity: Identity
    channels: int
    downscale: int
    scale: float

    def encode(self, frames: Tensor) -> Tensor:
        """Encodes (F, 3, H, W) uint8 RGB to (F, C, h, w) float32: the mode of the posterior, unscaled."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decodes (F, C, h, w) unscaled latents to (F, 3, H, W) uint8 RGB."""
        ...

    def decode_stream(self, latents: Iterable[Tensor], total: int, at_once: int | None = None) -> Iterator[Tensor]:
        """Yields the frames of ``decode`` in pieces of bounded length, each as soon as it is final.

        Args:
            latents: (n, C, h, w) latents of consecutive frames, in pieces of any length; the next piece is taken when
                its frames are needed.
            total: F, the number of frames in all pieces.
            at_once: Most frames decoded together, for less memory; None for the codec's own number.
        """
        ...


class TextEncoder(Protocol):
    """Encodes each text to one vector.

    Attributes:
        identity: Identity stored with the models trained on the embeddings.
        width: Text width D_t.
        limit: Maximum length of a text, in tokens or words of the encoder.
        pretrained: Whether the encoder was trained on text, so that its embeddings cover words absent from this
            project's training data.
    """

    identity: Identity
    width: int
    limit: int
    pretrained: bool

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Encodes B texts to (B, D_t) float32 on the CPU.

        Raises:
            TextError: If a text has no words or is longer than ``limit``; texts are never truncated.
        """
        ...
