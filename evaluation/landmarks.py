"""Landmarks for E-FID. The value depends on the detector.

Deep3DFaceRecon's README recommends MTCNN for its five landmarks; the proxy 3DDFA_V2 needs landmarks of the whole face.
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
    """Source of the speaker's landmarks in every frame of a clip.

    Attributes:
        name: Description in the results file.
        sources: Networks of the detector.
    """

    name: str
    sources: tuple[Source, ...]

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """Computes the landmarks of a clip.

        Args:
            frames: (H, W, 3) uint8 RGB frames.
            path: File that the frames come from.
            start: Time of the first frame in the file, seconds.

        Returns:
            (P, 2) landmarks of each frame in pixels, or None without a face.
        """
        ...

    def key(self, path: Path) -> dict[str, object]:
        """Returns everything that the landmarks depend on, except frames and networks."""
        ...


class MediaPipeLandmarks:
    """68 landmarks of the speaker tracked by MediaPipe's FaceLandmarker."""

    name = "MediaPipe FaceLandmarker, video mode, as 68 points"

    def __init__(self) -> None:
        path = located("face_landmarker")
        self.sources: tuple[Source, ...] = (
            describe("face_landmarker", path, "MediaPipe FaceLandmarker", chosen=False),
        )
        self.detector = MediaPipeDetector()

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """Computes (68, 2) landmarks of each frame; see ``Landmarks``."""
        faces = self.detector.track(frames, path).faces
        return [None if face is None else as_ibug68(face.landmarks, self.detector.scheme) for face in faces]

    def key(self, path: Path) -> dict[str, object]:
        """Returns an empty key."""
        return {}


class MTCNNLandmarks:
    """Five landmarks of the largest face, detected by MTCNN in each frame independently."""

    name = "MTCNN (facenet-pytorch's weights), five points, each frame for itself"

    def __init__(self, device: torch.device) -> None:
        paths = [located(name) for name in MTCNN_FILES]
        self.sources = tuple(
            describe(name, path, f"MTCNN {path.stem}", chosen=False)
            for name, path in zip(MTCNN_FILES, paths, strict=True)
        )
        self.network = MTCNN(*paths).to(device)

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """Computes (5, 2) landmarks of each frame; see ``Landmarks``."""
        return [self.network.largest(frame) for frame in frames]

    def key(self, path: Path) -> dict[str, object]:
        """Returns an empty key."""
        return {}


class SidecarLandmarks:
    """68 landmarks from the landmark file of the video."""

    name = "landmark files beside the videos, 68 points"
    sources: tuple[Source, ...] = ()

    def __init__(self) -> None:
        self.detector = SidecarDetector()

    def follow(self, frames: Iterable[np.ndarray], path: Path, start: float) -> list[np.ndarray | None]:
        """Reads (68, 2) landmarks of each frame; see ``Landmarks``.

        Raises:
            LandmarkFileError: If the landmark file is missing or damaged.
        """
        faces = self.detector.track(frames, path, start).faces
        return [None if face is None else face.landmarks for face in faces]

    def key(self, path: Path) -> dict[str, object]:
        """Returns the hash of the landmark file."""
        file = path.with_suffix(".csv")
        return {"landmark_file": sha256_of(file) if file.is_file() else None}


def landmarks_for(config: EFIDConfig, device: torch.device) -> Landmarks:
    """Builds the landmark source of E-FID's configuration.

    Raises:
        NotComputed: If weights are missing.
    """
    if config.landmarks == "sidecar":
        return SidecarLandmarks()
    return MTCNNLandmarks(device) if config.network == "deep3d" else MediaPipeLandmarks()


def located(name: str) -> Path:
    """Returns the path of the weights ``name``.

    Raises:
        NotComputed: If the weights are missing or have a wrong hash.
    """
    try:
        return locate(name)
    except MissingWeights as error:
        raise NotComputed(f"needs {WEIGHTS[name].files[0].path}\n{error}") from error
    except WeightsError as error:
        raise NotComputed(str(error)) from error
