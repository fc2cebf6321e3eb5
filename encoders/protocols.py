"""What the project asks of a frozen pretrained model: five protocols, and the face record they exchange.

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
    from torch import Tensor  # the records here are read by programs that never load torch

FPS = 25
SAMPLE_RATE = 16_000

LandmarkScheme = Literal["ibug68", "mediapipe478"]
LANDMARK_COUNTS: dict[str, int] = {"ibug68": 68, "mediapipe478": 478}


@dataclass(frozen=True)
class Identity:
    """Which encoder made some features: shards and checkpoints made by different ones are never mixed.

    Attributes:
        name: the encoder's name in the configuration, e.g. ``mel``.
        options: every option that changes its output.
        weights: file name -> sha256 of every weight file it read.
    """

    name: str
    options: dict[str, str | int | float | bool] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Face:
    """One face in one image.

    Attributes:
        landmarks: (P, 2) float32, x and y in pixels of the image it was found in; may lie outside the image.
        blendshapes: (52,) float32 in [0, 1] in MediaPipe's order, where the detector gives them.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray | None = None


@dataclass(frozen=True)
class Tracking:
    """What a landmark detector saw in a clip.

    Attributes:
        faces: the speaker's face in every frame, or None where it was not found.
        several: share in [0, 1] of the checked frames that held a second face of comparable size.
        size: (width, height) of the frames in pixels.
    """

    faces: list[Face | None]
    several: float
    size: tuple[int, int]


@dataclass(frozen=True)
class FaceTrack:
    """One speaker's face through a clip, without gaps.

    Attributes:
        landmarks: (F, P, 2) float32 in pixels of the frames they belong to.
        scheme: what the P points are.
        detected: (F,) bool, False where the landmarks are interpolated.
        blendshapes: (F, 52) float32, where the detector gives them.
    """

    landmarks: np.ndarray
    scheme: LandmarkScheme
    detected: np.ndarray
    blendshapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.landmarks)

    def cropped(self, left: float, top: float, scale: float) -> FaceTrack:
        """The same track in a crop that starts at (left, top) and is then resized by ``scale``.

        Pixel centres lie at half-integers, so a crop box [left, left + side) maps to [0, side * scale).
        """
        moved = (self.landmarks - np.array([left, top], np.float32)) * np.float32(scale)
        return FaceTrack(moved, self.scheme, self.detected, self.blendshapes)


class LandmarkDetector(Protocol):
    """Finds faces and their landmarks."""

    identity: Identity
    scheme: LandmarkScheme

    def detect(self, image: np.ndarray) -> list[Face]:
        """Every face of one (H, W, 3) uint8 RGB image, the largest first."""
        ...

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Follows the speaker through (H, W, 3) uint8 RGB frames at 25 fps.

        Args:
            frames: read once, one at a time.
            video: the file the frames come from; a sidecar detector reads the landmarks beside it.
            start: time of the first frame in the file, seconds.
        """
        ...


class AudioEncoder(Protocol):
    """Speech to per-frame features."""

    identity: Identity
    layers: int
    width: int

    def __call__(self, samples: Tensor) -> Tensor:
        """(S,) float32 mono at 16 kHz in [-1, 1] -> (F, L, D) float32 with F = ceil(S * 25 / 16000)."""
        ...


class MotionEncoder(Protocol):
    """Face frames to a lip latent and an expression latent."""

    identity: Identity
    lip_width: int
    expression_width: int

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """(F, H, W, 3) uint8 RGB and their track -> lip (F, d_l), expression (F, d_e), float32, not standardised."""
        ...


class LatentCodec(Protocol):
    """Frames to latents and back.

    Attributes:
        channels: C.
        downscale: H / h.
        scale: factor from the stored, unscaled latents to those the diffusion model sees (svd: 0.18215).
    """

    identity: Identity
    channels: int
    downscale: int
    scale: float

    def encode(self, frames: Tensor) -> Tensor:
        """(F, 3, H, W) uint8 RGB -> (F, C, h, w) float32, the unscaled mode."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """(F, C, h, w) unscaled latents -> (F, 3, H, W) uint8 RGB."""
        ...

    def decode_stream(self, latents: Tensor) -> Iterator[Tensor]:
        """The frames ``decode`` gives, in pieces of bounded length and as soon as they are final."""
        ...


class TextEncoder(Protocol):
    """Words to one vector per text.

    Attributes:
        width: D_t.
        limit: longest text it reads, in its own units (tokens, words).
        pretrained: whether it knows the meaning of words that nothing of this project was trained on.
    """

    identity: Identity
    width: int
    limit: int
    pretrained: bool

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, D_t) float32 on the CPU.

        Raises:
            TextError: for a text without words, or one over the limit; nothing is cut off.
        """
        ...
