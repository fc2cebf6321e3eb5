"""Decoding of S3FD's outputs to face boxes, as in syncnet_python.

Boxes are (left, top, right, bottom). Shapes: B images, P priors, K boxes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

MEAN_BGR = (104.0, 117.0, 123.0)
MIN_SIZES = (16, 32, 64, 128, 256, 512)
STEPS = (4, 8, 16, 32, 64, 128)
VARIANCES = (0.1, 0.2)
FACE_CONFIDENCE = 0.9
MIN_INPUT = 32  # at least one pixel must remain after five halvings
SHRINK = 4  # detection runs at 1/4 of the frame's size
BATCH = 16  # images per call of the network


def priors_of(size: tuple[int, int], maps: Sequence[tuple[int, int]]) -> Tensor:
    """Builds the priors: one square for each cell of each feature map.

    Args:
        size: (H, W) of the image.
        maps: (rows, columns) of each feature map.

    Returns:
        (P, 4) float32 centre x, centre y, width and height, as fractions of the image.
    """
    height, width = size
    parts = []
    for (rows, columns), step, side in zip(maps, STEPS, MIN_SIZES, strict=True):
        y, x = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
        centres = np.stack([(x + 0.5) / (width / step), (y + 0.5) / (height / step)], axis=-1).reshape(-1, 2)
        parts.append(np.concatenate([centres, np.full_like(centres, (side / width, side / height))], axis=1))
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))


def decode_boxes(offsets: Tensor, priors: Tensor) -> Tensor:
    """Decodes (P, 4) predicted offsets and their priors to (P, 4) boxes, as fractions of the image."""
    centres = priors[:, :2] + offsets[:, :2] * VARIANCES[0] * priors[:, 2:]
    sizes = priors[:, 2:] * torch.exp(offsets[:, 2:] * VARIANCES[1])
    low = centres - sizes / 2
    return torch.cat([low, low + sizes], dim=1)


def nms(boxes: Tensor, scores: Tensor, overlap: float) -> Tensor:
    """Calls ``torchvision.ops.nms``: indices of the kept ones of (K, 4) boxes with (K,) scores, the best first."""
    from torchvision.ops import nms as suppress  # late: it takes longer to import than torch

    return suppress(boxes, scores, overlap)


def detections_of(
    offsets: Tensor,
    probabilities: Tensor,
    priors: Tensor,
    min_confidence: float = 0.05,
    overlap: float = 0.3,
    candidates: int = 5000,
    keep: int = 750,
) -> Tensor:
    """Selects the faces of one image by confidence and non-maximum suppression.

    Args:
        offsets: (P, 4) predicted offsets.
        probabilities: (P, 2) probabilities of background and face.
        priors: (P, 4) priors.
        min_confidence: Minimum probability (exclusive).
        overlap: Maximum IoU of two boxes; of two boxes with more overlap the less probable one is dropped.
        candidates: Maximum number of boxes before suppression.
        keep: Maximum number of returned boxes.

    Returns:
        (K, 5) probability and box, sorted by descending probability.
    """
    boxes, scores = decode_boxes(offsets, priors), probabilities[:, 1]
    confident = scores > min_confidence
    boxes, scores = boxes[confident], scores[confident]
    best = scores.argsort(descending=True, stable=True)[:candidates]
    kept = best[nms(boxes[best], scores[best], overlap)][:keep]
    return torch.cat([scores[kept, None], boxes[kept]], dim=1)


def suppress_overlaps(faces: np.ndarray, overlap: float = 0.1) -> np.ndarray:
    """Returns the indices of the (K, 5) box-and-score rows that remain after non-maximum suppression at ``overlap``."""
    # The original reverses an ascending sort, so of boxes with equal scores the last comes first.
    rows = torch.from_numpy(np.array(faces[::-1], dtype=np.float64))
    return len(faces) - 1 - nms(rows[:, :4], rows[:, 4], overlap).numpy()


def shrink(image: np.ndarray, factor: int) -> np.ndarray:
    """Downscales an (H, W, 3) uint8 image by 1 / ``factor`` like OpenCV's linear resize.

    For an even factor each sample lies in the middle of four pixels and is their mean, rounded half up. The result is
    bit-identical, except for one grey level in a last row or column that a factor of 2 divides.

    Raises:
        ValueError: If the factor is neither 1 nor even.
    """
    if factor == 1:
        return image
    if factor % 2 or factor < 2:
        raise ValueError(f"S3FD: the factor must be 1 or even, found {factor}")
    first = [np.arange(round(n / factor)) * factor + factor // 2 - 1 for n in image.shape[:2]]
    rows, columns = (np.minimum(i[:, None] + [0, 1], n - 1) for i, n in zip(first, image.shape[:2], strict=True))
    wide = image.astype(np.uint16)
    wide = wide[rows[:, 0]] + wide[rows[:, 1]]
    return ((wide[:, columns[:, 0]] + wide[:, columns[:, 1]] + 2) // 4).astype(np.uint8)


def network_input(images: Sequence[np.ndarray], factor: int = SHRINK) -> Tensor:
    """Converts B (H, W, 3) uint8 RGB images of one size to the network's input: (B, 3, h, w) float32, mean removed."""
    reduced = torch.from_numpy(np.stack([shrink(image, factor) for image in images])).permute(0, 3, 1, 2).float()
    return reduced - torch.tensor(MEAN_BGR[::-1])[:, None, None]


def faces_in_pixels(
    rows: Sequence[Tensor], size: tuple[int, int], min_confidence: float = FACE_CONFIDENCE
) -> np.ndarray:
    """Merges the detections of one image at one or several scales.

    Args:
        rows: (K, 5) probability and box of each scale, boxes as fractions of the image.
        size: (H, W) of the image.
        min_confidence: Minimum probability (exclusive).

    Returns:
        (K, 5) float32 box in pixels and probability, without overlaps, sorted by descending probability.
    """
    height, width = size
    found = torch.cat([scale[scale[:, 0] > min_confidence] for scale in rows])
    boxes = found[:, 1:] * torch.tensor([width, height, width, height], device=found.device)
    faces = torch.cat([boxes, found[:, :1]], dim=1).float().cpu().numpy()
    return faces[suppress_overlaps(faces)] if len(faces) else faces


def detect_faces(
    image: np.ndarray,
    network: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    factors: Sequence[int] = (SHRINK,),
    min_confidence: float = FACE_CONFIDENCE,
) -> np.ndarray:
    """Detects the faces of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        network: S3FD, from the input to offsets, probabilities and priors.
        factors: Factors by which the image is downscaled; 1 or even.
        min_confidence: Minimum probability (exclusive).

    Returns:
        (K, 5) float32 boxes in pixels with their probability.

    Examples:
        >>> from metrics.functional.face_detection import detect_faces
        >>> from metrics.networks.s3fd import S3FDNet
        >>> detect_faces(frame, S3FDNet("sfd_face.pth"))  # doctest: +SKIP

    Raises:
        ValueError: If the downscaled image is smaller than the network's minimum input.
    """
    return detect_faces_of([image], network, factors, min_confidence)[0]


def detect_faces_of(
    images: Sequence[np.ndarray],
    network: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    factors: Sequence[int] = (SHRINK,),
    min_confidence: float = FACE_CONFIDENCE,
    batch_size: int = BATCH,
) -> list[np.ndarray]:
    """Detects the faces of images of one size, in batches; as ``detect_faces`` for each."""
    found: list[np.ndarray] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        height, width = batch[0].shape[:2]
        smallest = MIN_INPUT * max(factors)
        if min(height, width) < smallest:
            raise ValueError(f"S3FD needs frames of at least {smallest} pixels, found {width} x {height}")
        scales = [network(network_input(batch, factor)) for factor in factors]
        for index in range(len(batch)):
            rows = [detections_of(moves[index], sure[index], priors) for moves, sure, priors in scales]
            found.append(faces_in_pixels(rows, (height, width), min_confidence))
    return found
