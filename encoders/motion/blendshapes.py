"""Lip and expression latents from MediaPipe's 52 blendshape scores.

The lip latent has the jaw and mouth shapes without smile and frown. The expression latent has brows, cheeks, eyes,
nose, smile and frown, and with ``pose`` the pose of the head in the frame, see ``pose_features``.
Shapes: F frames, H x W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from encoders.landmarks.face_landmarker import BLENDSHAPES
from encoders.landmarks.mediapipe_detector import MediaPipeDetector
from encoders.motion.geometry import POSE_FEATURES, pose_features
from encoders.protocols import FaceTrack, Identity

EMOTIVE_MOUTH = ("mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight")
LIP_SHAPES = tuple(name for name in BLENDSHAPES if name.startswith(("jaw", "mouth")) and name not in EMOTIVE_MOUTH)
EXPRESSION_SHAPES = (
    *(name for name in BLENDSHAPES if name.startswith(("brow", "cheek", "eye", "nose"))),
    *EMOTIVE_MOUTH,
)
CLOSED_EYES = 0.65  # score of eyeBlink in a blink: 0.59 to 0.70 in 7 of 9 blinks of a clip of HDTF


class BlendshapeMotion:
    """``MotionEncoder`` of blendshape scores in [0, 1], from the track or from MediaPipe on the frames.

    Args:
        pose: Whether the expression latent ends with the pose of the head in the frame.

    Attributes:
        lip_names: Names of the 23 shapes of the lip latent, in MediaPipe's order.
        expression_names: Names of the 28 shapes of the expression latent, smile and frown last, and of the pose.
        eyelids: Dimension of the expression latent -> its value with closed eyes.
        pose_dimensions: Dimensions of the expression latent that are the pose of the head.
    """

    eyelids: ClassVar = {EXPRESSION_SHAPES.index(f"eyeBlink{side}"): CLOSED_EYES for side in ("Left", "Right")}

    @staticmethod
    def latent_names(pose: bool = False, **_: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the dimensions of both latents, by the options of an identity."""
        return LIP_SHAPES, (*EXPRESSION_SHAPES, *POSE_FEATURES) if pose else EXPRESSION_SHAPES

    @staticmethod
    def announced(pose: bool = False) -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"lip_width": len(LIP_SHAPES), "expression_width": len(BlendshapeMotion.latent_names(pose)[1])}

    def __init__(self, pose: bool = False) -> None:
        self._detector = MediaPipeDetector()
        # Without pose the identity is that of shards made before the option existed.
        self.identity = Identity("blendshapes", {"pose": True} if pose else {}, self._detector.identity.weights)
        self.pose_dimensions = range(len(EXPRESSION_SHAPES), len(self.latent_names(pose)[1]))
        self.lip_names, self.expression_names = self.latent_names(pose)
        self.lip_width, self.expression_width = len(LIP_SHAPES), len(self.expression_names)
        self._lip = [BLENDSHAPES.index(name) for name in LIP_SHAPES]
        self._expression = [BLENDSHAPES.index(name) for name in EXPRESSION_SHAPES]

    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """Computes the latents of a clip.

        Args:
            frames: (F, H, W, 3) uint8 RGB crops; used only if the track has no blendshapes, and for their side.
            track: Face track in pixels of the crops.

        Returns:
            Lip (F, 23) and expression (F, 28) latents, float32 in [0, 1]; with the pose (F, 34), see ``pose_features``.

        Raises:
            ValueError: If the track has no blendshapes and MediaPipe finds no face in the frames.
        """
        scores = track.blendshapes if track.blendshapes is not None else self._measure(frames)
        values = torch.from_numpy(np.ascontiguousarray(scores, np.float32))
        lip, expression = values[:, self._lip], values[:, self._expression]
        if self.pose_dimensions:
            pose = pose_features(track.landmarks, track.scheme, frames.shape[2])
            expression = torch.cat([expression, torch.from_numpy(pose.astype(np.float32))], 1)
        return lip, expression

    def _measure(self, frames: np.ndarray) -> np.ndarray:
        """Returns the (F, 52) scores of the frames, interpolated where no face is found."""
        faces = self._detector.track(iter(frames), Path())
        seen = [(index, face.blendshapes) for index, face in enumerate(faces.faces) if face is not None]
        if not seen:
            raise ValueError(
                f"MediaPipe finds no face in any of {len(frames)} frames, so there are no blendshapes; use "
                "encoders.motion.name=landmarks for synthetic faces"
            )
        times = np.array([index for index, _ in seen])
        scores = np.stack([shapes for _, shapes in seen if shapes is not None])
        return np.stack([np.interp(np.arange(len(frames)), times, score) for score in scores.T], axis=1)
