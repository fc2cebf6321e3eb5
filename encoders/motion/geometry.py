"""Lip and expression latents from ratios of distances between landmarks.

Landmarks are mapped to a face frame: origin at the base of the nose, x axis along the line through the eyes towards the
subject's left, y axis downwards, unit the distance between the eyes. The latents are therefore invariant to position,
in-plane rotation and size of the face. The lip latent measures the opening and width of the mouth and the height of the
lower lip; thickness of the lips and length of the chin depend on the person, not on the speech, and are left out. The
expression latent measures brows, eyelids and the height of the mouth corners, which depend on emotion more than on
speech. With ``pose`` it also has the position, size and rotation of the head in the frame: V-AID then samples how the
head moves, and ETHD is conditioned on it. Without it, ETHD itself has to choose a pose from noise.

Shapes: F frames, P landmarks. Indices are those of the 68-point scheme.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from encoders.landmarks.schemes import as_ibug68
from encoders.protocols import FaceTrack, Identity, LandmarkScheme

NOSE_BASE = 33
# Corners only, since the lids move in every blink.
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

POSE_FEATURES = ("head_x", "head_y", "head_size", "head_roll", "head_yaw", "head_pitch")

VERSION = 2  # version of the features below, part of the identity in shards
HALF_PARTED = 0.1  # opening at which ``parted`` is 0.5, in distances between the eyes
CLOSED_EYES = 0.0  # opening
LEAST_WIDTH = 0.1  # keeps ``aspect`` finite for damaged landmarks; a pursed mouth is three times as wide


def face_frame(landmarks: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Maps landmarks to the face frame.

    Args:
        landmarks: (F, P, 2) landmarks in pixels.
        scheme: Landmark scheme of the P points.

    Returns:
        (F, 68, 2) float64: x to the subject's left, y downwards, in units of the distance between the eyes.

    Raises:
        ValueError: If both eyes of a frame are at the same point.
    """
    points = as_ibug68(landmarks, scheme).astype(np.float64)
    right, left = points[:, RIGHT_EYE_CORNERS].mean(1), points[:, LEFT_EYE_CORNERS].mean(1)
    axis = left - right
    distance = np.linalg.norm(axis, axis=1)
    if (distance < 1e-6).any():
        raise ValueError(f"frame {int(distance.argmin())}: both eyes are at the same point; check the landmarks")
    x, y = (axis / distance[:, None] ** 2).T
    rotation = np.stack([np.stack([x, y], -1), np.stack([-y, x], -1)], axis=1)
    return np.einsum("fij,fpj->fpi", rotation, points - points[:, NOSE_BASE : NOSE_BASE + 1])


def lip_features(points: np.ndarray) -> np.ndarray:
    """Computes the lip features: (F, 68, 2) in the face frame to (F, 9) in the order of ``LIP_FEATURES``.

    ``aspect`` is opening / width. ``parted`` is opening / (opening + ``HALF_PARTED``), from 0 (closed) towards 1 (wide
    open). It is most sensitive near closed lips, where small openings matter most for sound and appearance.
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
    """Expression features: (F, 68, 2) in the face frame to (F, 13) in the order of ``EXPRESSION_FEATURES``.

    Raised is positive. Brows are relative to the line through the eyes. Mouth corners are relative to the middle of the
    mouth opening, so that they do not depend on the opening.
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


def pose_features(landmarks: np.ndarray, scheme: LandmarkScheme, side: int) -> np.ndarray:
    """Pose of the head in the frame.

    Args:
        landmarks: (F, P, 2) landmarks in pixels.
        scheme: Landmark scheme of the P points.
        side: Side of the square frames, pixels.

    Returns:
        (F, 6) in the order of ``POSE_FEATURES``: the middle between the eyes, from the centre of the frame and in its
        sides; the natural logarithm of the distance between the eyes in the same unit; the clockwise angle of the line
        through the eyes, radians; and the base of the nose from that middle in the face frame, which moves sideways and
        down as the head turns.

    Raises:
        ValueError: If both eyes of a frame are at the same point.
    """
    inside = face_frame(landmarks, scheme)[:, [*RIGHT_EYE_CORNERS, *LEFT_EYE_CORNERS]].mean(1)
    points = as_ibug68(landmarks, scheme).astype(np.float64) / side
    right, left = points[:, RIGHT_EYE_CORNERS].mean(1), points[:, LEFT_EYE_CORNERS].mean(1)
    (x, y), (across, down) = ((right + left) / 2 - 0.5).T, (left - right).T
    return np.stack([x, y, np.log(np.hypot(across, down)), np.arctan2(down, across), -inside[:, 0], -inside[:, 1]], -1)


class LandmarkMotion:
    """``MotionEncoder`` of landmark ratios; needs no network.

    Args:
        pose: Whether the expression latent ends with the pose of the head in the frame.

    Attributes:
        lip_names: Names of the dimensions of the lip latent.
        expression_names: Names of the dimensions of the expression latent.
        eyelids: Dimension of the expression latent -> its value with closed eyes.
        pose_dimensions: Dimensions of the expression latent that are the pose of the head.
    """

    eyelids: ClassVar = {EXPRESSION_FEATURES.index(f"eye_opening_{side}"): CLOSED_EYES for side in ("right", "left")}

    @staticmethod
    def latent_names(pose: bool = False, **_: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the dimensions of both latents, by the options of an identity."""
        return LIP_FEATURES, (*EXPRESSION_FEATURES, *POSE_FEATURES) if pose else EXPRESSION_FEATURES

    @staticmethod
    def announced(pose: bool = False) -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"lip_width": len(LIP_FEATURES), "expression_width": len(LandmarkMotion.latent_names(pose)[1])}

    def __init__(self, pose: bool = False) -> None:
        # Without pose the identity is that of shards made before the option existed.
        options: dict[str, str | int | float | bool] = {"version": VERSION}
        self.identity = Identity("landmarks", {**options, "pose": True} if pose else options)
        self.pose_dimensions = range(len(EXPRESSION_FEATURES), len(self.latent_names(pose)[1]))
        self.lip_names, self.expression_names = self.latent_names(pose)
        self.lip_width, self.expression_width = len(LIP_FEATURES), len(self.expression_names)

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """Computes the latents of a clip from its landmarks; of ``frames`` only the side is used.

        Returns:
            Lip (F, 9) and expression (F, 13) latents, float32, in units of the distance between the eyes; with the pose
            (F, 19), see ``pose_features``.
        """
        points = face_frame(track.landmarks, track.scheme)
        lip, expression = lip_features(points), expression_features(points)
        if self.pose_dimensions:
            pose = pose_features(track.landmarks, track.scheme, frames.shape[2])
            expression = np.concatenate([expression, pose], 1)
        return torch.from_numpy(lip.astype(np.float32)), torch.from_numpy(expression.astype(np.float32))
