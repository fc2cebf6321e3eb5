"""Lip and face boxes from landmarks, and the binary masks M_lip and M_face at the U-Net's resolutions.

EmotiveTalk §3.3: bounding boxes of lips and face, rasterised and max-pooled so that a lip box never vanishes at the
coarsest level. Boxes are x0, y0, x1, y1 in pixels with pixel centres at half-integers, so the box of the whole picture
is 0, 0, W, H.

Shapes: F frames, B clips, P landmarks, H x W picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from encoders.landmarks.schemes import FACE, LIPS, require_scheme
from encoders.protocols import LandmarkScheme

LEVELS = (64, 32, 16, 8)
# ibug68 ends at the brows. Hairline to brow, brow to nose and nose to chin each are about a third of a face, so the
# missing forehead is about half of the height of the 68 points.
FOREHEAD = 0.5


def bounding_boxes(points: np.ndarray) -> np.ndarray:
    """Returns the (F, 4) tight boxes of (F, N, 2) points."""
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def face_extents(landmarks: np.ndarray, scheme: LandmarkScheme) -> np.ndarray:
    """Computes boxes of the face from chin to hairline, for cropping and for checks of position and size.

    A forehead is added for schemes without one (ibug68). Boxes may exceed the picture.

    Args:
        landmarks: (F, P, 2) landmarks in pixels.
        scheme: Landmark scheme of the P points.

    Returns:
        (F, 4) float64 boxes.
    """
    require_scheme(landmarks, scheme)
    boxes = bounding_boxes(landmarks[:, FACE[scheme]].astype(np.float64))
    if scheme == "ibug68":
        boxes[:, 1] -= FOREHEAD * (boxes[:, 3] - boxes[:, 1])
    return boxes


def face_boxes(
    landmarks: np.ndarray, scheme: LandmarkScheme, box_scale: float = 1.2, size: tuple[int, int] = (512, 512)
) -> np.ndarray:
    """Computes lip and face boxes, expanded about their centres and shifted inside the picture.

    A box that exceeds the picture is shifted, not cut; only a box larger than the picture is reduced to it. The lip box
    always lies in the face box. An ibug68 face box ends just above the brows, as in the published masks of that scheme.

    Args:
        landmarks: (F, P, 2) landmarks in pixels of the picture.
        scheme: Landmark scheme of the P points.
        box_scale: Factor of the expansion, at least 1.
        size: (W, H) of the picture.

    Returns:
        (F, 2, 4) float32 boxes, [lip, face], each with 0 <= x0 < x1 <= W and 0 <= y0 < y1 <= H.

    Raises:
        ValueError: If the landmarks do not have the scheme's number of points or are not finite.
    """
    require_scheme(landmarks, scheme)
    if not np.isfinite(landmarks).all():
        raise ValueError("landmarks have NaN or infinite values; expected a track without gaps")
    points = landmarks.astype(np.float64)
    tight = np.stack([bounding_boxes(points[:, LIPS[scheme]]), bounding_boxes(points[:, FACE[scheme]])], axis=1)
    # MediaPipe's face oval ends at the chin bone, and a wide open mouth can reach below it.
    tight[:, 1, :2] = tight[..., :2].min(axis=1)
    tight[:, 1, 2:] = tight[..., 2:].max(axis=1)
    centre = (tight[..., :2] + tight[..., 2:]) / 2
    # At least half a pixel on each side, so that no box is empty.
    half = np.maximum((tight[..., 2:] - tight[..., :2]) / 2 * box_scale, 0.5)
    picture = np.asarray(size, np.float64)
    half = np.minimum(half, picture / 2)
    centre = np.clip(centre, half, picture - half)
    boxes = np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)
    return np.clip(boxes, 0, np.tile(picture, 2).astype(np.float32))


def mask_pyramid(
    boxes: Tensor, size: tuple[int, int], levels: Sequence[int] = LEVELS
) -> dict[int, tuple[Tensor, Tensor]]:
    """Computes binary masks of the lip and face boxes at every level of the U-Net.

    A box covers every pixel that it touches. A cell of a level is 1 if any of its pixels is covered (adaptive
    max-pool). A box is a product of two intervals, and so is its mask, so pooling in one dimension is sufficient.

    Args:
        boxes: (B, 2, 4) float boxes, [lip, face], in pixels inside the picture.
        size: (W, H) of the picture.
        levels: Side of the square grid at each level.

    Returns:
        Level -> (M_lip, M_face), each (B, 1, level, level) float32 of 0 and 1 on the device of ``boxes``. Each mask has
        at least one 1, a coarser mask covers all finer ones, and M_lip lies in M_face if the boxes do.

    Raises:
        ValueError: If ``boxes`` has another shape.
    """
    if boxes.ndim != 3 or boxes.shape[1:] != (2, 4):
        raise ValueError(f"boxes: expected (B, 2, 4), lip and face, found {tuple(boxes.shape)}")
    x0, y0, x1, y1 = boxes.to(torch.float32).unbind(-1)
    columns, rows = _covered(x0, x1, size[0]), _covered(y0, y1, size[1])
    masks = {}
    for level in levels:
        mask = F.adaptive_max_pool1d(rows, level)[..., :, None] * F.adaptive_max_pool1d(columns, level)[..., None, :]
        masks[level] = (mask[:, :1], mask[:, 1:])
    return masks


def _covered(low: Tensor, high: Tensor, length: int) -> Tensor:
    """Rasterises intervals: (B, 2) ends to (B, 2, length), 1 at the touched pixels, at least one per interval."""
    pixels = torch.arange(length, device=low.device)
    first = low.floor().clamp(0, length - 1)[..., None]
    last = (high.ceil() - 1).clamp(0, length - 1)[..., None].maximum(first)
    return ((pixels >= first) & (pixels <= last)).to(torch.float32)
