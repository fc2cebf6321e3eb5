"""Lip and expression latents that are plain geometry: ratios of distances between landmarks.

Points are first put into a frame of the face itself: origin at the base of the nose, x along the line through the eyes
towards the subject's left, y downwards, unit the distance between the eyes. What remains does not change when the face
moves, turns in the picture plane or comes nearer. The lip latent holds how far the mouth is open, how wide it is and
how low the lower lip hangs. How thick lips are and how long a chin is belongs to the person and cannot be heard, so
it is left out. The expression latent holds brows, eyelids and the height of the mouth's corners, which speech hardly
touches and emotion does.

Shapes: F frames, P landmarks. Indices are those of the 68-point scheme.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from encoders.landmarks.schemes import as_ibug68
from encoders.protocols import FaceTrack, Identity, LandmarkScheme

NOSE_BASE = 33
# Corners only: the middle of the lids moves with every blink.
RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS = (36, 39), (42, 45)

LIP_FEATURES = (
    "inner_opening_right", "inner_opening_centre", "inner_opening_left",
    "outer_opening", "inner_width", "outer_width", "lower_lip_to_nose", "aspect", "parted",
)  # fmt: skip
EXPRESSION_FEATURES = (
    "brow_inner_right", "brow_inner_left", "brow_middle_right", "brow_middle_left",
    "brow_outer_right", "brow_outer_left", "brow_slant_right", "brow_slant_left", "brow_gap",
    "eye_opening_right", "eye_opening_left", "mouth_corner_right", "mouth_corner_left",
)  # fmt: skip

VERSION = 2  # of the features below: shards made by another are told apart
HALF_PARTED = 0.1  # opening, in distances between the eyes
LEAST_WIDTH = 0.1  # a pursed mouth is three times as wide; keeps damaged landmarks finite


def face_frame(landmarks: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Landmarks in the frame of the face itself.

    Args:
        landmarks: (F, P, 2) in pixels.
        scheme: what the P points are.

    Returns:
        (F, 68, 2) float64: x to the subject's left, y downwards, in units of the distance between the eyes.

    Raises:
        ValueError: if the eyes of a frame coincide.
    """
    points = as_ibug68(landmarks, scheme).astype(np.float64)
    right, left = points[:, RIGHT_EYE_CORNERS].mean(1), points[:, LEFT_EYE_CORNERS].mean(1)
    axis = left - right
    distance = np.linalg.norm(axis, axis=1)
    if (distance < 1e-6).any():
        raise ValueError(f"frame {int(distance.argmin())}: the eyes lie on one point; these are no face landmarks")
    x, y = (axis / distance[:, None] ** 2).T
    rotation = np.stack([np.stack([x, y], -1), np.stack([-y, x], -1)], axis=1)
    return np.einsum("fij,fpj->fpi", rotation, points - points[:, NOSE_BASE : NOSE_BASE + 1])


def lip_features(points: np.ndarray) -> np.ndarray:
    """(F, 68, 2) in the face's frame -> (F, 9) in the order of ``LIP_FEATURES``.

    ``aspect`` is the opening over the width. ``parted`` rises from 0 for closed lips to 1 for a gaping mouth, half of
    it at ``HALF_PARTED``: whether lips touch or just part is heard and seen better than how far an open mouth is open.
    """
    x, y = points[..., 0], points[..., 1]
    opening, width = y[:, 66] - y[:, 62], x[:, 64] - x[:, 60]
    gap = np.maximum(opening, 0)
    return np.stack(
        [
            y[:, 67] - y[:, 61],
            opening,
            y[:, 65] - y[:, 63],
            y[:, 57] - y[:, 51],
            width,
            x[:, 54] - x[:, 48],
            y[:, 66] - y[:, NOSE_BASE],
            opening / np.maximum(width, LEAST_WIDTH),
            gap / (gap + HALF_PARTED),
        ],
        axis=-1,
    )


def expression_features(points: np.ndarray) -> np.ndarray:
    """(F, 68, 2) in the face's frame -> (F, 13) in the order of ``EXPRESSION_FEATURES``; raised is positive.

    Brows are measured from the line through the eyes, mouth corners from the middle of the mouth's opening, so that
    opening the mouth does not move them.
    """
    y = points[..., 1]
    eyes = y[:, [*RIGHT_EYE_CORNERS, *LEFT_EYE_CORNERS]].mean(1)
    mouth = (y[:, 62] + y[:, 66]) / 2
    return np.stack(
        [
            eyes - y[:, 21],
            eyes - y[:, 22],
            eyes - y[:, 19],
            eyes - y[:, 24],
            eyes - y[:, 17],
            eyes - y[:, 26],
            y[:, 17] - y[:, 21],
            y[:, 26] - y[:, 22],
            points[:, 22, 0] - points[:, 21, 0],
            (y[:, 41] - y[:, 37] + y[:, 40] - y[:, 38]) / 2,
            (y[:, 47] - y[:, 43] + y[:, 46] - y[:, 44]) / 2,
            mouth - y[:, 48],
            mouth - y[:, 54],
        ],
        axis=-1,
    )


class LandmarkMotion:
    """``MotionEncoder`` from landmarks alone: needs no network and takes no time.

    Attributes:
        lip_names: what each dimension of the lip latent is.
        expression_names: the same for the expression latent.
    """

    lip_names, expression_names = LIP_FEATURES, EXPRESSION_FEATURES

    def __init__(self) -> None:
        self.identity = Identity("landmarks", {"version": VERSION})
        self.lip_width, self.expression_width = len(LIP_FEATURES), len(EXPRESSION_FEATURES)

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """The latents of a clip; the frames themselves are not looked at.

        Returns:
            lip (F, 9) and expression (F, 13), float32, in units of the distance between the eyes.
        """
        points = face_frame(track.landmarks, track.scheme)
        lip, expression = lip_features(points), expression_features(points)
        return torch.from_numpy(lip.astype(np.float32)), torch.from_numpy(expression.astype(np.float32))
