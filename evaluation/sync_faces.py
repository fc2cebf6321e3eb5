"""Where Sync looks for faces: the original's detector, another one, or landmark files.

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
from metrics.functional.face_detection import detect_faces
from metrics.networks.s3fd import S3FDNet

Faces = Callable[[Sequence[np.ndarray], Path, float], list[np.ndarray]]


def faces_for(config: SyncConfig, device: torch.device) -> tuple[Faces, tuple[Source, ...]]:
    """Boxes (K, >= 4) of the faces in each of a video's frames from a time on, and the networks behind them."""
    if config.detector == "sidecar":
        return sidecar_boxes, ()
    if config.detector == "s3fd":
        s3fd = load("s3fd", config.detector_weights, "S3FD", S3FDNet, device)
        return (lambda frames, *_: [detect_faces(frame, s3fd.network) for frame in frames]), (s3fd.source,)
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
    """(4,) the face's box as shards with 68 landmarks have it, which is what proxies were trained on."""
    size = frame.shape[1], frame.shape[0]
    return face_boxes(as_ibug68(face.landmarks, scheme)[None], "ibug68", size=size)[0, 1]


def sidecar_boxes(frames: Sequence[np.ndarray], video: Path, start: float = 0.0) -> list[np.ndarray]:
    """The speaker's face in each frame, (1, 4) or (0, 4), as wide as the boxes in our shards.

    Args:
        frames: (H, W, 3) uint8 RGB at 25 fps.
        video: where they come from.
        start: time of the first of them in it, seconds.

    Raises:
        LandmarkFileError: if there is no landmark file beside the video, or it is damaged.
    """
    faces = SidecarDetector().track(frames, video, start).faces
    return [
        np.zeros((0, 4)) if face is None else shard_box(face, "ibug68", frame)[None].astype(float)
        for face, frame in zip(faces, frames, strict=True)
    ]
