"""Landmark schemes: indices of lips and face outline, and the map from one scheme to the other.

``ibug68`` is the 68-point scheme of iBUG 300-W (OpenFace, dlib); ``mediapipe478`` is MediaPipe's FaceLandmarker.
Shapes: F frames, P landmarks.
"""

from __future__ import annotations

import numpy as np

from encoders.protocols import LANDMARK_COUNTS, LandmarkScheme

LIPS: dict[LandmarkScheme, tuple[int, ...]] = {
    "ibug68": tuple(range(48, 68)),
    # Outer contour of MediaPipe's FACEMESH_LIPS.
    "mediapipe478": (
        61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 146, 91, 181, 84, 17, 314, 405, 321, 375,
    ),
}  # fmt: skip

FACE: dict[LandmarkScheme, tuple[int, ...]] = {
    # Jaw, brows, nose, eyes and mouth. There is no point above the brows, so their box excludes the forehead.
    "ibug68": tuple(range(68)),
    # MediaPipe's FACEMESH_FACE_OVAL, clockwise from the hairline.
    "mediapipe478": (
        10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
    ),
}  # fmt: skip

# The MediaPipe point nearest to each of the 68: jaw 0-16, brows 17-26, nose 27-35, eyes 36-47, mouth 48-67.
MEDIAPIPE_TO_IBUG: tuple[int, ...] = (
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip


def scheme_of(landmarks: np.ndarray) -> LandmarkScheme:
    """Returns the scheme of (..., P, 2) landmarks by their number P.

    Raises:
        ValueError: If no scheme has P points.
    """
    for scheme, count in LANDMARK_COUNTS.items():
        if landmarks.shape[-2] == count:
            return scheme  # type: ignore[return-value]
    raise ValueError(f"no landmark scheme has {landmarks.shape[-2]} points; known schemes: {LANDMARK_COUNTS}")


def require_scheme(landmarks: np.ndarray, scheme: LandmarkScheme) -> None:
    """Checks that (..., P, 2) landmarks have the number of points of their scheme.

    Raises:
        ValueError: If they do not.
    """
    if landmarks.shape[-2:] != (LANDMARK_COUNTS[scheme], 2):
        raise ValueError(f"{scheme} landmarks: expected (..., {LANDMARK_COUNTS[scheme]}, 2), found {landmarks.shape}")


def as_ibug68(landmarks: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Converts (F, P, 2) landmarks of any scheme to (F, 68, 2) in iBUG's order, in the same units."""
    require_scheme(landmarks, scheme)
    return landmarks if scheme == "ibug68" else landmarks[..., MEDIAPIPE_TO_IBUG, :]
