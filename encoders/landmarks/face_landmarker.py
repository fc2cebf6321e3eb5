"""MediaPipe's FaceLandmarker task: loading it, running it, and its result as our ``Face``.

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

# MediaPipe's own order.
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
    """FaceLandmarker cannot be built; the message says what is missing and what to do."""


class FaceLandmarker:
    """One running landmarker; close it, or use it in a ``with`` block.

    Args:
        model: content of ``face_landmarker.task``.
        source: where it was read, for error messages.
        mode: ``image`` looks at every picture afresh; ``video`` follows one face and smooths its landmarks in time.
        faces: how many it may find.
        strict: ask for more certainty than MediaPipe does by itself; hands no longer pass for faces.

    Raises:
        FaceLandmarkerError: if the file is damaged or MediaPipe's system libraries are missing.
    """

    def __init__(
        self, model: bytes, source: Path, mode: Literal["image", "video"], faces: int = 1, strict: bool = False
    ) -> None:
        self._mode = mode
        with _quiet():
            self._task, self._image = _create(model, source, mode, faces, strict)
        # A task that outlives the interpreter prints a traceback; this closes it before.
        self._close = weakref.finalize(self, self._task.close)
        self._warm = False

    def __call__(self, image: np.ndarray, milliseconds: int = 0) -> list[Face]:
        """The faces of an (H, W, 3) uint8 RGB image, in its pixels; in video mode the time must grow.

        Landmarks may lie outside the image.
        """
        if self._warm:
            return self._faces(image, milliseconds)
        with _quiet():  # the first run of each landmarker logs too
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
        return [
            Face(np.array([(point.x, point.y) for point in points], np.float32) * pixels, _blendshapes(scores))
            for points, scores in zip(result.face_landmarks, shapes, strict=True)
        ]

    def close(self) -> None:
        """Ends its threads."""
        self._close()

    def __enter__(self) -> FaceLandmarker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _blendshapes(scores: Any) -> np.ndarray | None:
    """(52,) float32 from MediaPipe's list of categories."""
    if scores is None:
        return None
    names = tuple(category.category_name for category in scores)
    if names != BLENDSHAPES:
        raise FaceLandmarkerError(
            f"the FaceLandmarker model gives {len(names)} blendshapes {names[:3]}..., expected MediaPipe's "
            f"{len(BLENDSHAPES)}; use face_landmarker.task (float16, version 1)"
        )
    return np.array([category.score for category in scores], np.float32)


def _create(model: bytes, source: Path, mode: str, faces: int, strict: bool) -> tuple[Any, Any]:
    """MediaPipe's task object, and the function that wraps an array as its image."""
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
        )
        task = vision.FaceLandmarker.create_from_options(options)
    except (ImportError, OSError) as error:  # its shared library needs GL's names even where it runs on the CPU
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
    """Keeps MediaPipe's profiling signal ignored whatever a training loop restores.

    MediaPipe sends its process SIGPROF and ignores it behind Python's back. Lightning's Trainer puts back, when it is
    done, the handlers Python knows of; to Python SIGPROF was never touched, and its default ends the process.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGPROF) == signal.SIG_DFL:
        signal.signal(signal.SIGPROF, signal.SIG_IGN)


keep_profiler_signal_ignored()  # at import: a Trainer remembers its handlers before a callback starts MediaPipe


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps MediaPipe's start-up chatter off the terminal.

    Its C++ libraries write to file descriptor 2 before any setting of theirs is read, so the descriptor itself is
    turned away for the few milliseconds of a start; errors still arrive as exceptions.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, AttributeError, ValueError):  # no standard error to keep clean
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
