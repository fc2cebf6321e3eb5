"""Landmarks for E-FID. The value depends on the detector.

Deep3DFaceRecon's README recommends MTCNN for its five landmarks; the proxy 3DDFA_V2 needs landmarks of the whole face.
Shapes: F frames, P landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from configs.evaluation import EFIDConfig
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.landmarks.schemes import as_ibug68
from encoders.landmarks.sidecar import SidecarDetector
from encoders.weights import WEIGHTS, MissingWeights, WeightsError, locate
from evaluation.aligned_clips import Side
from evaluation.networks import LoadedNetwork, NotComputed, Source, describe
from metrics.networks.mtcnn import MTCNN
from runtime.files import sha256_of

MTCNN_FILES = ("mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet")


class LandmarkStream(Protocol):
    """Landmarks of the frames of one clip, given in order."""

    def add(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        """Returns (P, 2) landmarks in pixels of each (H, W, 3) uint8 RGB frame; None without a face."""
        ...

    def kept(self) -> np.ndarray:
        """Returns (F,) bool after all frames: whether the face of a frame is the speaker's."""
        ...


class Landmarks(Protocol):
    """Source of the speaker's landmarks in every frame of a clip.

    Attributes:
        name: Description in the results file.
        sources: Networks of the detector.
        single_frames: Whether the landmarks of a frame do not depend on other frames.
    """

    name: str
    sources: tuple[Source, ...]
    single_frames: bool

    def stream(self, side: Side) -> LandmarkStream:
        """Starts with the first compared frame of a side.

        Raises:
            LandmarkFileError: If a landmark file is missing or damaged.
        """
        ...

    def key(self, path: Path) -> dict[str, object]:
        """Returns everything that the landmarks depend on, except frames and networks."""
        ...


class MediaPipeLandmarks:
    """68 landmarks of the speaker tracked by MediaPipe's FaceLandmarker."""

    name = "MediaPipe FaceLandmarker, video mode, as 68 points"
    single_frames = False

    def __init__(self) -> None:
        path = located("face_landmarker")
        self.sources: tuple[Source, ...] = (
            describe("face_landmarker", path, "MediaPipe FaceLandmarker", chosen=False),
        )
        self.detector = MediaPipeDetector()

    def stream(self, side: Side) -> LandmarkStream:
        """Starts a tracker of (68, 2) landmarks; see ``Landmarks``."""
        return _Followed(self.detector)

    def key(self, path: Path) -> dict[str, object]:
        """Returns an empty key."""
        return {}


class MTCNNLandmarks:
    """Five landmarks of the largest face, detected by MTCNN in each frame independently."""

    name = "MTCNN (facenet-pytorch's weights), five points, each frame for itself"
    single_frames = True

    def __init__(self, device: torch.device) -> None:
        paths = [located(name) for name in MTCNN_FILES]
        self.sources = tuple(
            describe(name, path, f"MTCNN {path.stem}", chosen=False)
            for name, path in zip(MTCNN_FILES, paths, strict=True)
        )
        self.loaded: LoadedNetwork[MTCNN] = LoadedNetwork(lambda: MTCNN(*paths).to(device), self.sources[0])

    def stream(self, side: Side) -> LandmarkStream:
        """Detects (5, 2) landmarks; see ``Landmarks``."""
        return _Detected(self.loaded.network)

    def key(self, path: Path) -> dict[str, object]:
        """Returns an empty key."""
        return {}


class SidecarLandmarks:
    """68 landmarks from the landmark file of the video."""

    name = "landmark files beside the videos, 68 points"
    single_frames = False
    sources: tuple[Source, ...] = ()

    def __init__(self) -> None:
        self.detector = SidecarDetector()

    def stream(self, side: Side) -> LandmarkStream:
        """Reads (68, 2) landmarks; see ``Landmarks``.

        Raises:
            LandmarkFileError: If the landmark file is missing or damaged.
        """
        blank = np.broadcast_to(np.uint8(0), (side.info.height, side.info.width, 3))
        blanks = (blank for _ in range(side.frames))
        faces = self.detector.track(blanks, side.path, side.start / side.fps).faces
        return _Read([None if face is None else face.landmarks for face in faces])

    def key(self, path: Path) -> dict[str, object]:
        """Returns the hash of the landmark file."""
        file = path.with_suffix(".csv")
        return {"landmark_file": sha256_of(file) if file.is_file() else None}


class _Followed:
    """``LandmarkStream`` of MediaPipe's tracker."""

    def __init__(self, detector: MediaPipeDetector) -> None:
        self._scheme = detector.scheme
        self._follower = detector.follower()
        self._index = 0

    def add(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        faces = [self._follower.follow(self._index + place, frame) for place, frame in enumerate(frames)]
        self._index += len(frames)
        return [None if face is None else as_ibug68(face.landmarks, self._scheme) for face in faces]

    def kept(self) -> np.ndarray:
        with self._follower:  # ends its tracker
            return np.array([face is not None for face in self._follower.speaker()])


class _Detected:
    """``LandmarkStream`` of a detector of single frames."""

    def __init__(self, network: MTCNN) -> None:
        self._network = network
        self._count = 0

    def add(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        self._count += len(frames)
        return self._network.largest_of(frames)

    def kept(self) -> np.ndarray:
        return np.ones(self._count, bool)


class _Read:
    """``LandmarkStream`` of known landmarks."""

    def __init__(self, faces: list[np.ndarray | None]) -> None:
        self._faces = faces
        self._given = 0

    def add(self, frames: Sequence[np.ndarray]) -> list[np.ndarray | None]:
        begin, self._given = self._given, self._given + len(frames)
        return self._faces[begin : self._given]

    def kept(self) -> np.ndarray:
        return np.array([face is not None for face in self._faces])


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
