"""Lip and expression latents from PD-FGC's motion encoder, on faces aligned as in its training.

    landmarks -> similarity to (87, 59), (137, 59), (112, 120) of 224 x 224, with a fixed mouth position
              -> rows 0-191 and columns 16-207, resized to 224 -> FanEncoder -> mouth 512, emotion 30 (and eye 6)

The alignment is PC-AVS's for VoxCeleb2 (Zhou et al., CVPR 2021), the crop is PD-FGC's. Other crops degrade the latents
without an error. PD-FGC scales the latents and smooths the mouth for its generator; this encoder does neither.

Shapes: F frames, H x W pixels, B frames at a time, P landmarks.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from encoders.landmarks.schemes import as_ibug68
from encoders.motion.fan import EMOTION_WIDTH, EYE_WIDTH, INPUT_SIZE, MOUTH_WIDTH, FanEncoder
from encoders.protocols import FaceTrack, Identity
from encoders.weights import WrongWeights, load_pickle, locate
from runtime.files import sha256_of

RIGHT_EYE, LEFT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(60, 68)
# Target positions of eyes and mouth in 224 x 224; published for pixel centres at integers, hence + 0.5.
TEMPLATE = np.array([[87.0, 59.0], [137.0, 59.0], [112.0, 120.0]]) + 0.5
PREVIOUS, CURRENT = 0.2, 0.8
CUT = 16  # columns removed left and right; twice as many rows are removed at the bottom
CHUNK = 32
# Layers of the training network that the published loader ignores.
UNUSED = ("mouth_fc", "headpose_fc", "classifier", "to_feature", "to_embed")


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Computes the least-squares similarity (rotation, scale and shift) from (N, 2) points to (N, 2) points.

    Umeyama (1991) in two dimensions, where points are complex numbers x + iy and the solution is a single division.

    Returns:
        (2, 3) matrix.

    Raises:
        ValueError: If all source points coincide.
    """
    a, b = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    a_mean, b_mean = a.mean(), b.mean()
    spread = float((np.abs(a - a_mean) ** 2).sum())
    if spread < 1e-9:
        raise ValueError("eyes and mouth are at the same point; check the landmarks")
    turn = ((a - a_mean).conj() * (b - b_mean)).sum() / spread
    shift = b_mean - turn * a_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def alignment(track: FaceTrack) -> np.ndarray:
    """Computes the matrices from pixels of the frames to pixels of 224 x 224, both with centres at half-integers.

    One similarity for the whole clip maps the mean eyes and mouth to ``TEMPLATE``. A shift per frame then moves the
    mouth to its target; shifts are smoothed as 0.2 of the previous frame's shift and 0.8 of the frame's own.

    Returns:
        (F, 2, 3) matrices.
    """
    points = as_ibug68(track.landmarks, track.scheme).astype(np.float64)
    three = np.stack([points[:, part].mean(1) for part in (RIGHT_EYE, LEFT_EYE, MOUTH)], axis=1)
    matrix = similarity(three.mean(0), TEMPLATE)
    mouths = three[:, 2] @ matrix[:, :2].T + matrix[:, 2]
    shifts = TEMPLATE[2] - mouths
    for index in range(1, len(shifts)):
        shifts[index] = PREVIOUS * shifts[index - 1] + CURRENT * shifts[index]
    matrices = np.repeat(matrix[None], len(points), axis=0)
    matrices[:, :, 2] += shifts
    return matrices


def warp_face(frame: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps (H, W, 3) uint8 by its (2, 3) matrix to (224, 224, 3) uint8, as PC-AVS does: bilinear, black outside."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    image = Image.fromarray(np.ascontiguousarray(frame)).transform(
        (INPUT_SIZE, INPUT_SIZE), Image.Transform.AFFINE, tuple(inverse.ravel()), Image.Resampling.BILINEAR
    )
    return np.asarray(image)


def aligned_faces(frames: np.ndarray, matrices: np.ndarray) -> Tensor:
    """Warps, crops and resizes faces: (B, H, W, 3) uint8 and (B, 2, 3) matrices to (B, 3, 224, 224) in [-1, 1]."""
    warped = [
        warp_face(frame, matrix)[: INPUT_SIZE - 2 * CUT, CUT : INPUT_SIZE - CUT]
        for frame, matrix in zip(frames, matrices, strict=True)
    ]
    faces = torch.from_numpy(np.stack(warped)).permute(0, 3, 1, 2).to(torch.float32)
    faces = F.interpolate(faces, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
    return faces.round() / 127.5 - 1  # the original resizes 8-bit pictures


def load_fan(state: Any, source: Path) -> FanEncoder:
    """Loads the frozen network from a PD-FGC state dict.

    Args:
        state: Content of ``motion_model.pth``: key -> tensor.
        source: Path of the file, for messages.

    Raises:
        WrongWeights: If ``state`` is not a state dict, or tensors are missing or have other shapes.

    Warns:
        UserWarning: If ``state`` has tensors that are neither part of the network nor known to be unused.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WrongWeights(
            f"{source}: has {type(state).__name__}, expected a plain state dict (key -> tensor); "
            "use checkpoints/motion_model.pth of PD-FGC"
        )
    network = FanEncoder()
    wanted = network.state_dict()
    missing = sorted(key for key in wanted if key not in state)
    if missing:
        raise WrongWeights(
            f"{source}: lacks {len(missing)} of the {len(wanted)} tensors of PD-FGC's motion encoder, first "
            f"{', '.join(missing[:3])}; expected checkpoints/motion_model.pth of PD-FGC"
        )
    shapes = [key for key in wanted if tuple(state[key].shape) != tuple(wanted[key].shape)]
    if shapes:
        key = shapes[0]
        raise WrongWeights(
            f"{source}: {len(shapes)} tensors have other shapes, first {key}: {tuple(state[key].shape)} instead of "
            f"{tuple(wanted[key].shape)}; expected checkpoints/motion_model.pth of PD-FGC"
        )
    extra = sorted(key for key in state if key not in wanted and not any(part in key for part in UNUSED))
    if extra:
        warnings.warn(f"{source}: ignored {len(extra)} unknown tensors: {', '.join(extra[:5])}", stacklevel=2)
    network.load_state_dict({key: state[key] for key in wanted})
    return network.eval().requires_grad_(False)


def _expression_width(features: str) -> int:
    return EMOTION_WIDTH + (EYE_WIDTH if features == "emo+eye" else 0)


class PDFGCMotion:
    """``MotionEncoder`` of PD-FGC: lip latent of width 512, expression latent of width 30, or 36 with the eyes.

    Args:
        features: ``emo`` for the emotion latent only, ``emo+eye`` to append the eye latent (gaze and blinks).
        device: Device of the network.

    Raises:
        ValueError: If ``features`` is unknown.
        WrongWeights: If the file is not PD-FGC's motion encoder.
    """

    @staticmethod
    def announced(features: str = "emo") -> dict[str, int]:
        """Sizes of the latents, without building an encoder."""
        return {"lip_width": MOUTH_WIDTH, "expression_width": _expression_width(features)}

    def __init__(self, features: Literal["emo", "emo+eye"] = "emo", device: str = "cpu") -> None:
        if features not in ("emo", "emo+eye"):
            raise ValueError(f"encoders.motion.options.features: expected emo or emo+eye, found {features!r}")
        path = locate("pdfgc")
        self.identity = Identity("pdfgc", {"features": features}, {path.name: sha256_of(path)})
        self.lip_width = MOUTH_WIDTH
        self.expression_width = _expression_width(features)
        self._with_eyes = features == "emo+eye"
        self._device = torch.device(device)
        self._network = load_fan(load_pickle(path), path).to(self._device)

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray, track: FaceTrack) -> tuple[Tensor, Tensor]:
        """Computes the latents of a clip.

        Args:
            frames: (F, H, W, 3) uint8 RGB crops.
            track: Face track in pixels of the crops, of any landmark scheme.

        Returns:
            Lip (F, 512) and expression (F, 30 or 36) latents, float32 on the CPU.
        """
        matrices = alignment(track)
        lips, expressions = [], []
        for start in range(0, len(frames), CHUNK):
            faces = aligned_faces(frames[start : start + CHUNK], matrices[start : start + CHUNK])
            _, eye, emotion, mouth = self._network(faces.to(self._device))
            lips.append(mouth.cpu())
            expressions.append((torch.cat([emotion, eye], dim=-1) if self._with_eyes else emotion).cpu())
        return torch.cat(lips), torch.cat(expressions)
