"""Face boxes for Sync: from S3FD as in the original, from MediaPipe, or from landmark files.

Shapes: K faces in a frame, boxes (left, top, right, bottom) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from configs.evaluation import SyncConfig
from encoders.landmarks.boxes import face_boxes
from encoders.landmarks.following import box_of
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.landmarks.schemes import as_ibug68
from encoders.landmarks.sidecar import SidecarDetector
from encoders.protocols import Face, LandmarkScheme
from evaluation.landmarks import located
from evaluation.networks import Source, describe, load
from metrics.functional.face_detection import detect_faces_of
from metrics.networks.s3fd import S3FDNet

Faces = Callable[[Sequence[np.ndarray], Path, float], list[np.ndarray]]


def faces_for(config: SyncConfig, device: torch.device) -> tuple[Faces, tuple[Source, ...]]:
    """Builds the face detector of a configuration.

    Returns:
        Function from (frames, video file, start in seconds) to (K, >= 4) boxes of each frame, and its networks.
    """
    if config.detector == "sidecar":
        return sidecar_boxes, ()
    if config.detector == "s3fd":
        s3fd = load("s3fd", config.detector_weights, "S3FD", S3FDNet, device)
        return (lambda frames, *_: detect_faces_of(frames, s3fd.network)), (s3fd.source,)
    path = located("face_landmarker")
    mediapipe = MediaPipeDetector()
    as_trained = config.network == "proxy"

    def boxes(frames: Sequence[np.ndarray], *_: object) -> list[np.ndarray]:
        found = (
            [
                shard_box(face, mediapipe.scheme, frame) if as_trained else box_of(face)
                for face in mediapipe.detect(frame)
            ]
            for frame in frames
        )
        return [np.array(one, np.float64).reshape(-1, 4) for one in found]

    return boxes, (describe("face_landmarker", path, "MediaPipe FaceLandmarker", chosen=False, proxy=True),)


def shard_box(face: Face, scheme: LandmarkScheme, frame: np.ndarray) -> np.ndarray:
    """Returns the (4,) face box of shards with 68 landmarks, which proxy networks were trained on."""
    size = frame.shape[1], frame.shape[0]
    return face_boxes(as_ibug68(face.landmarks, scheme)[None], "ibug68", size=size)[0, 1]


def sidecar_boxes(frames: Sequence[np.ndarray], video: Path, start: float = 0.0) -> list[np.ndarray]:
    """Reads the speaker's face box from the landmark file of a video; same boxes as in shards.

    Args:
        frames: (H, W, 3) uint8 RGB frames at 25 fps.
        video: File that the frames come from.
        start: Time of the first frame in the file, seconds.

    Returns:
        (1, 4) box of each frame, or (0, 4) without a face.

    Raises:
        LandmarkFileError: If the landmark file is missing or damaged.
    """
    faces = SidecarDetector().track(frames, video, start).faces
    return [
        np.zeros((0, 4)) if face is None else shard_box(face, "ibug68", frame)[None].astype(float)
        for face, frame in zip(faces, frames, strict=True)
    ]
