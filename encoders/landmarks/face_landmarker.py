"""Wrapper of MediaPipe's FaceLandmarker task that returns ``Face`` records.

Shapes: H x W pixels, P = 478 landmarks, 52 blendshapes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from encoders.protocols import Face
from runtime.errors import UserError

# In MediaPipe's order.
BLENDSHAPES: tuple[str, ...] = (
    "_neutral",
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)  # fmt: skip


class FaceLandmarkerError(UserError):
    """Raised if FaceLandmarker cannot be created; the message names the cause and the next step."""


class FaceLandmarker:
    """Running FaceLandmarker; a context manager.

    Args:
        model: Content of ``face_landmarker.task``.
        source: Path of that file, for messages.
        mode: ``image`` detects in each picture independently; ``video`` tracks one face and smooths its landmarks.
        faces: Maximum number of faces.
        strict: Uses higher confidence thresholds than MediaPipe's defaults, which rejects hands.
        solid: Also returns depth and rotation of the faces.

    Raises:
        FaceLandmarkerError: If the file is damaged or MediaPipe's system libraries are missing.
    """

    def __init__(
        self,
        model: bytes,
        source: Path,
        mode: Literal["image", "video"],
        faces: int = 1,
        strict: bool = False,
        solid: bool = False,
    ) -> None:
        self._mode, self._solid = mode, solid
        with _quiet():
            self._task, self._image = _create(model, source, mode, faces, strict, solid)
        # Closed before the interpreter exits, because MediaPipe otherwise prints a traceback.
        self._close = weakref.finalize(self, self._task.close)
        self._warm = False

    def __call__(self, image: np.ndarray, milliseconds: int = 0) -> list[Face]:
        """Detects the faces of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            milliseconds: Time of the frame; must increase in video mode.

        Returns:
            Faces with landmarks in pixels of the image; landmarks may lie outside it.
        """
        if self._warm:
            return self._faces(image, milliseconds)
        with _quiet():  # the first run of each landmarker logs, too
            faces = self._faces(image, milliseconds)
        self._warm = True
        return faces

    def _faces(self, image: np.ndarray, milliseconds: int) -> list[Face]:
        picture = self._image(np.ascontiguousarray(image))
        result = (
            self._task.detect(picture) if self._mode == "image" else self._task.detect_for_video(picture, milliseconds)
        )
        pixels = np.array([image.shape[1], image.shape[0]], np.float32)
        shapes = result.face_blendshapes or [None] * len(result.face_landmarks)
        if not self._solid:
            return [
                Face(np.array([(point.x, point.y) for point in points], np.float32) * pixels, _blendshapes(scores))
                for points, scores in zip(result.face_landmarks, shapes, strict=True)
            ]
        matrices = result.facial_transformation_matrixes or [None] * len(result.face_landmarks)
        faces = []
        for points, scores, matrix in zip(result.face_landmarks, shapes, matrices, strict=True):
            solid = np.array([(point.x, point.y, point.z) for point in points], np.float32)
            solid *= np.array(
                [image.shape[1], image.shape[0], image.shape[1]], np.float32
            )  # z is in units of the width
            faces.append(Face(solid[:, :2].copy(), _blendshapes(scores), solid[:, 2].copy(), _rotation(matrix)))
        return faces

    def close(self) -> None:
        """Stops MediaPipe's threads."""
        self._close()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _blendshapes(scores: Any) -> np.ndarray | None:
    """Converts MediaPipe's list of categories to (52,) float32 scores."""
    if scores is None:
        return None
    names = tuple(category.category_name for category in scores)
    if names != BLENDSHAPES:
        raise FaceLandmarkerError(
            f"the FaceLandmarker model has {len(names)} blendshapes {names[:3]}..., expected MediaPipe's "
            f"{len(BLENDSHAPES)}; use face_landmarker.task (float16, version 1)"
        )
    return np.array([category.score for category in scores], np.float32)


def _rotation(matrix: Any) -> np.ndarray | None:
    """Rotation of MediaPipe's (4, 4) face transformation, without its scale; None without one."""
    if matrix is None:
        return None
    u, _, vt = np.linalg.svd(np.asarray(matrix, np.float64)[:3, :3])
    return np.asarray(u @ vt, np.float32)


def _create(model: bytes, source: Path, mode: str, faces: int, strict: bool, solid: bool) -> tuple[Any, Any]:
    """Creates MediaPipe's task object, and the function that converts an array to its image type."""
    try:
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model),
            running_mode=vision.RunningMode.IMAGE if mode == "image" else vision.RunningMode.VIDEO,
            num_faces=faces,
            min_face_detection_confidence=0.7 if strict else 0.5,
            min_face_presence_confidence=0.9 if strict else 0.5,
            output_face_blendshapes=True,
            output_facial_transformation_matrixes=solid,
        )
        task = vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:  # the shared library links to GL even on the CPU
        raise FaceLandmarkerError(
            f"MediaPipe cannot be loaded ({error}); on Debian or Ubuntu: apt-get install libegl1 libgles2"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise FaceLandmarkerError(
            f"{source}: is not a usable FaceLandmarker model ({error}; {len(model)} bytes); delete it and run "
            "prepare.py task=weights preset=small, or copy face_landmarker.task there again"
        ) from error
    keep_profiler_signal_ignored()
    return task, lambda array: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=array)


def keep_profiler_signal_ignored() -> None:
    """Sets Python's handler of SIGPROF to "ignore", so that a Trainer does not restore the default.

    MediaPipe sends SIGPROF to its own process and ignores it in C++, which Python does not see. Lightning's Trainer
    restores Python's handlers at its end. For SIGPROF that would be the default, which kills the process.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)


keep_profiler_signal_ignored()  # at import: a Trainer saves the handlers before a callback starts MediaPipe


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides MediaPipe's log messages at start.

    The C++ libraries write to file descriptor 2 before they read their log settings, so the descriptor is redirected
    for the few milliseconds of a start. Errors are still raised as exceptions.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # there is no standard error
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
