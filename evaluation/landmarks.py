"""Where the face is in every frame, for E-FID. The detector is part of the value: others move it.

Deep3DFaceRecon's README names MTCNN for its five points; the 3DDFA_V2 proxy needs points that span the face.
Shapes: F frames, P landmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from configs.evaluation import EFIDConfig
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.landmarks.schemes import as_ibug68
from encoders.landmarks.sidecar import SidecarDetector
from encoders.weights import WEIGHTS, MissingWeights, WeightsError, locate
from evaluation.networks import NotComputed, Source, describe
from metrics.networks.mtcnn import MTCNN
from runtime.files import sha256_of

MTCNN_FILES = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet")


class Landmarks(Protocol):
    """Landmarks of the speaker in every frame of a clip.

    Attributes:
        name: what the results file says.
        sources: its networks.
    """

    name: str
    sources: tuple[Source, ...]

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """For each (H, W, 3) uint8 RGB frame, the first at ``start`` seconds, (P, 2) pixels, or None without a face."""
        ...

    def key(self, path: Path) -> dict[str, object]:
        """What the landmarks of a video depend on beside its frames and the networks."""
        ...


class MediaPipeLandmarks:
    """68 points of the one speaker MediaPipe's FaceLandmarker follows through the clip."""

    name = "MediaPipe FaceLandmarker, video mode, as 68 points"

    def __init__(self) -> None:
        path = located("face_landmarker")
        self.sources: tuple[Source, ...] = (
            describe("face_landmarker", path, "MediaPipe FaceLandmarker", chosen=False),
        )
        self.detector = MediaPipeDetector()

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """For each frame (68, 2) pixels, or None without a face."""
        faces = self.detector.track(frames, path).faces
        return [None if face is None else as_ibug68(face.landmarks, self.detector.scheme) for face in faces]

    def key(self, path: Path) -> dict[str, object]:
        """Nothing."""
        return {}


class MTCNNLandmarks:
    """Five points of the largest face of each frame, by MTCNN, every frame for itself."""

    name = "MTCNN (facenet-pytorch's weights), five points, each frame for itself"

    def __init__(self, device: torch.device) -> None:
        paths = [located(name) for name in MTCNN_FILES]
        self.sources = tuple(
            describe(name, path, f"MTCNN {path.stem}", chosen=False)
            for name, path in zip(MTCNN_FILES, paths, strict=True)
        )
        self.network = MTCNN(*paths).to(device)

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """For each frame (5, 2) pixels, or None without a face."""
        return [self.network.largest(frame) for frame in frames]

    def key(self, path: Path) -> dict[str, object]:
        """Nothing."""
        return {}


class SidecarLandmarks:
    """68 points from the file beside the video."""

    name = "landmark files beside the videos, 68 points"
    sources: tuple[Source, ...] = ()

    def __init__(self) -> None:
        self.detector = SidecarDetector()

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """For each frame (68, 2) pixels, or None without a face.

        Raises:
            LandmarkFileError: if there is no such file, or it is damaged.
        """
        faces = self.detector.track(frames, path, start).faces
        return [None if face is None else face.landmarks for face in faces]

    def key(self, path: Path) -> dict[str, object]:
        """The landmark file."""
        file = path.with_suffix(".csv")
        return {"landmark_file": sha256_of(file) if file.is_file() else None}


def landmarks_for(config: EFIDConfig, device: torch.device) -> Landmarks:
    """The landmarks E-FID's configuration asks for.

    Raises:
        NotComputed: if their weights are missing.
    """
    if config.landmarks == "sidecar":
        return SidecarLandmarks()
    return MTCNNLandmarks(device) if config.network == "deep3d" else MediaPipeLandmarks()


def located(name: str) -> Path:
    """The weights of that name.

    Raises:
        NotComputed: if they are missing or have another hash.
    """
    try:
        return locate(name)
    except MissingWeights as error:
        raise NotComputed(f"needs {WEIGHTS[name].files[0].path}\n{error}") from error
    except WeightsError as error:
        raise NotComputed(str(error)) from error
