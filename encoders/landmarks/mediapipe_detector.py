"""Landmark detector based on MediaPipe that tracks one speaker at any size and position.

MediaPipe detects faces on a 128 x 128 thumbnail and misses faces smaller than about 1/8 of the picture. Such faces are
searched in square parts of the picture and then tracked in a window around them.

Shapes: H x W pixels, P = 478 landmarks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from encoders.landmarks.face_landmarker import FaceLandmarker
from encoders.landmarks.following import (
    ROOM,
    WHOLE,
    SpeakerFollower,
    box_of,
    cut,
    cut_by,
    distinct,
    height_of,
    same_place,
    search_windows,
    shifted,
    window_around,
)
from encoders.protocols import FPS, Face, Identity, LandmarkScheme, Tracking
from encoders.weights import locate
from runtime.files import sha256_of

MAX_FACES = 4
CHECK_EVERY = FPS  # frames between checks for a second face
COMPARABLE = 0.5  # smallest height of a second face that counts, relative to the speaker's
SEARCHED = (1.0, 0.5)  # sides of the searched parts, relative to the picture's shorter side
SMALLEST = 0.15  # smallest face that MediaPipe detects reliably, relative to the picture


class MediaPipeDetector:
    """``LandmarkDetector`` based on MediaPipe's FaceLandmarker: 478 points and 52 blendshapes, on the CPU.

    Equal frames give equal landmarks, since every clip starts a new tracker.

    Args:
        solid: Faces of ``track`` also have depth and rotation; landmarks and blendshapes stay the same.

    Raises:
        FaceLandmarkerError: At the first use, if the model is damaged or MediaPipe's libraries are missing.
    """

    scheme: LandmarkScheme = "mediapipe478"

    def __init__(self, solid: bool = False) -> None:
        self._solid = solid
        self._source = locate("face_landmarker")
        self.identity = Identity("mediapipe", weights={self._source.name: sha256_of(self._source)})
        self._model = self._source.read_bytes()
        self._running: dict[bool, FaceLandmarker] = {}

    def detect(self, image: np.ndarray) -> list[Face]:
        """Detects all faces in an (H, W, 3) uint8 RGB image, the largest first.

        Parts of the image are searched only if no face is found in the whole image.
        """
        return self._detect(image) or self._search(image)

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Tracks the speaker, who is the largest face at the first detection.

        Args:
            frames: (H, W, 3) uint8 RGB frames at 25 fps.
            video: Not used.
            start: Not used.

        Returns:
            Face of the speaker in every frame, and the share of frames with a second face of comparable size, checked
            once per second.
        """
        checks: list[bool] = []
        size = (0, 0)
        with self.follower() as follower:
            for index, frame in enumerate(frames):
                size = (frame.shape[1], frame.shape[0])
                face = follower.follow(index, frame)
                if index % CHECK_EVERY == 0:
                    checks.append(self._several(frame, face))
            faces = follower.speaker()
        return Tracking(faces, float(np.mean(checks)) if checks else 0.0, size)

    def follower(self) -> SpeakerFollower:
        """Returns a new follower of the speaker, to which frames are given one by one; ``track`` does the same."""
        return SpeakerFollower(self._detect, self._search, self._tracker)

    def close(self) -> None:
        """Stops MediaPipe's threads; the next use starts them again."""
        for landmarker in self._running.values():
            landmarker.close()
        self._running.clear()

    def _tracker(self) -> FaceLandmarker:
        return FaceLandmarker(self._model, self._source, "video", solid=self._solid)

    def _detect(self, image: np.ndarray, strict: bool = False) -> list[Face]:
        """Detects faces in the whole image, the largest first."""
        if strict not in self._running:
            self._running[strict] = FaceLandmarker(self._model, self._source, "image", MAX_FACES, strict)
        return distinct(self._running[strict](image))

    def _search(self, image: np.ndarray) -> list[Face]:
        """Detects faces in parts of an image, first large parts, then small ones, until faces are found."""
        for share in SEARCHED:
            found = [
                self._confirmed(image, face) for face in self._detect_in_parts(image, share * min(image.shape[:2]))
            ]
            if faces := [face for face in found if face is not None]:
                return faces
        return []

    def _detect_in_parts(self, image: np.ndarray, side: float) -> list[Face]:
        """Detects faces in square parts of an image; the result may contain false detections (hands, patterns)."""
        size = (image.shape[1], image.shape[0])
        found = []
        for window in search_windows(*size, int(side)):
            faces = [shifted(face, window[:2]) for face in self._detect(cut(image, window))]
            found += [face for face in faces if not cut_by(face, window, size)]
        return distinct(found)

    def _confirmed(self, image: np.ndarray, face: Face) -> Face | None:
        """Detects a face again, with stricter thresholds, in a window around it; None if that finds no face."""
        box = box_of(face)
        window = window_around(box, ROOM, (image.shape[1], image.shape[0]))
        found = [shifted(other, window[:2]) for other in self._detect(cut(image, window), strict=True)]
        return next((other for other in found if same_place(box_of(other), box)), None)

    def _several(self, frame: np.ndarray, speaker: Face | None) -> bool:
        """Whether the frame shows a second face of comparable size."""
        found = self._detect(frame)
        if speaker is None:
            speaker = found.pop(0) if found else None
        if speaker is None:
            return False
        here, height = box_of(speaker), height_of(speaker)
        if height < WHOLE * max(frame.shape[:2]):  # a face half as high would be missed in the whole frame
            found += self._detect_in_parts(frame, COMPARABLE * height / SMALLEST)
        others = [face for face in found if not same_place(box_of(face), here)]
        confirmed = [self._confirmed(frame, face) for face in others if height_of(face) >= COMPARABLE * height]
        return any(
            face is not None and height_of(face) >= COMPARABLE * height and not same_place(box_of(face), here)
            for face in confirmed
        )
