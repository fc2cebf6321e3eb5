"""Landmarks by MediaPipe: one speaker followed through a clip, at any size and anywhere in the picture.

MediaPipe finds faces on a 128 x 128 thumbnail, so a face lower than about an eighth of the picture escapes it. Such a
face is searched in square parts of the picture and then followed in a window around it.

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
CHECK_EVERY = FPS  # frames between looks for a second person
COMPARABLE = 0.5  # a second face counts from this share of the speaker's height on
SEARCHED = (1.0, 0.5)  # sides of the parts that are searched, over the picture's shorter side
SMALLEST = 0.15  # share of a picture from which MediaPipe finds a face dependably


class MediaPipeDetector:
    """``LandmarkDetector`` on MediaPipe's FaceLandmarker: 478 points and 52 blendshapes, on the CPU.

    The same frames always give the same landmarks: every clip starts a fresh tracker.

    Raises:
        FaceLandmarkerError: when it is first used, if the model is damaged or MediaPipe's libraries are missing.
    """

    scheme: LandmarkScheme = "mediapipe478"

    def __init__(self) -> None:
        self._source = locate("face_landmarker")
        self.identity = Identity("mediapipe", weights={self._source.name: sha256_of(self._source)})
        self._model = self._source.read_bytes()
        self._running: dict[bool, FaceLandmarker] = {}

    def detect(self, image: np.ndarray) -> list[Face]:
        """Every face of one (H, W, 3) uint8 RGB image, the largest first.

        Parts of the image are searched only where the whole shows no face.
        """
        return self._look(image) or self._search(image)

    def track(self, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
        """Follows the speaker: the largest face at first, held to one person.

        Args:
            frames: (H, W, 3) uint8 RGB at 25 fps.
            video: not read.
            start: not used.

        Returns:
            the speaker's face per frame, and how often a second face of comparable size was in view (looked for once
            a second).
        """
        checks: list[bool] = []
        size = (0, 0)
        with SpeakerFollower(self._look, self._search, self._tracker) as follower:
            for index, frame in enumerate(frames):
                size = (frame.shape[1], frame.shape[0])
                face = follower.follow(index, frame)
                if index % CHECK_EVERY == 0:
                    checks.append(self._several(frame, face))
            faces = follower.speaker()
        return Tracking(faces, float(np.mean(checks)) if checks else 0.0, size)

    def close(self) -> None:
        """Ends MediaPipe's threads; using the detector starts them again."""
        for landmarker in self._running.values():
            landmarker.close()
        self._running.clear()

    def _tracker(self) -> FaceLandmarker:
        return FaceLandmarker(self._model, self._source, "video")

    def _look(self, image: np.ndarray, strict: bool = False) -> list[Face]:
        """The faces MediaPipe finds in an image as it is, the largest first."""
        if strict not in self._running:
            self._running[strict] = FaceLandmarker(self._model, self._source, "image", MAX_FACES, strict)
        return distinct(self._running[strict](image))

    def _search(self, image: np.ndarray) -> list[Face]:
        """The faces in parts of an image, from large parts to small ones until there are some."""
        for share in SEARCHED:
            found = [self._confirmed(image, face) for face in self._look_in_parts(image, share * min(image.shape[:2]))]
            if faces := [face for face in found if face is not None]:
                return faces
        return []

    def _look_in_parts(self, image: np.ndarray, side: float) -> list[Face]:
        """The faces in square parts of an image; among them may be hands and patterns."""
        size = (image.shape[1], image.shape[0])
        found = []
        for window in search_windows(*size, int(side)):
            faces = [shifted(face, window[:2]) for face in self._look(cut(image, window))]
            found += [face for face in faces if not cut_by(face, window, size)]
        return distinct(found)

    def _confirmed(self, image: np.ndarray, face: Face) -> Face | None:
        """The face as a second, strict look at its surroundings shows it, or None where that shows none."""
        box = box_of(face)
        window = window_around(box, ROOM, (image.shape[1], image.shape[0]))
        found = [shifted(other, window[:2]) for other in self._look(cut(image, window), strict=True)]
        return next((other for other in found if same_place(box_of(other), box)), None)

    def _several(self, frame: np.ndarray, speaker: Face | None) -> bool:
        """Whether a second face of comparable size is in view."""
        found = self._look(frame)
        if speaker is None:
            speaker = found.pop(0) if found else None
        if speaker is None:
            return False
        here, height = box_of(speaker), height_of(speaker)
        if height < WHOLE * max(frame.shape[:2]):  # one half as high would not be found in the whole
            found += self._look_in_parts(frame, COMPARABLE * height / SMALLEST)
        others = [face for face in found if not same_place(box_of(face), here)]
        confirmed = [self._confirmed(frame, face) for face in others if height_of(face) >= COMPARABLE * height]
        return any(
            face is not None and height_of(face) >= COMPARABLE * height and not same_place(box_of(face), here)
            for face in confirmed
        )
