"""Face alignment of E-FID for Deep3DFaceRecon, and the crop for 3DDFA_V2.

EMO (Tian et al., 2024) defines E-FID as the Fréchet distance of expression parameters of a face reconstruction. Here
these are the 64 expression coefficients of Deep3DFaceRecon_pytorch for every frame, pooled.

Shapes: N images, H x W pixels, P landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

CROP_SIZE = 224
FACE_SCALE = 102.0  # pixels in the crop per unit of the template

# Five points of the mean face: left eye, right eye, nose, left and right mouth corner; y points up. Computed from the
# 68 points in Deep3DFaceRecon_pytorch's BFM/similarity_Lm3D_all.mat.
TEMPLATE = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
# Points of the 68-point scheme, counted from 1: nose tip, eye corners (averaged per eye), mouth corners.
_NOSE, _EYES, _MOUTH = 31, ((37, 40), (43, 46)), (49, 55)


@dataclass(frozen=True)
class AlignedFace:
    """Input crop of Deep3DFaceRecon.

    Attributes:
        image: (224, 224, 3) uint8 RGB, black outside the original.
        transform: Width and height of the original, scale, and position x, y (y up) of the template's origin in the
            original, pixels.
        landmarks: (5, 2) landmarks in the crop, y up.
    """

    image: np.ndarray
    transform: tuple[float, float, float, float, float]
    landmarks: np.ndarray


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """Reduces (68, 2) iBUG landmarks to (5, 2): eye centres, nose tip, mouth corners. Five points are unchanged.

    Raises:
        ValueError: If the landmarks have another shape or are not finite.
    """
    if landmarks.shape not in ((5, 2), (68, 2)) or not np.isfinite(landmarks).all():
        raise ValueError(f"E-FID: expected finite (5, 2) or (68, 2) landmarks, found shape {landmarks.shape}")
    if len(landmarks) == 5:
        return landmarks
    eyes = [landmarks[[a - 1, b - 1]].mean(axis=0) for a, b in _EYES]
    return np.stack([*eyes, landmarks[_NOSE - 1], *(landmarks[i - 1] for i in _MOUTH)])


def scaled_orthography(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Fits the weak-perspective projection of ``TEMPLATE`` to five points by least squares.

    Source: the POS step of DeMenthon and Davis, 1995, as in Deep3DFaceRecon's util/preprocess.py.

    Returns:
        (2,) position of the template's origin, and pixels per template unit.
    """
    ones = np.ones((len(TEMPLATE), 1))
    solution, *_ = np.linalg.lstsq(np.hstack([TEMPLATE, ones]), landmarks.astype(np.float64), rcond=None)
    return solution[3], float(np.linalg.norm(solution[:3], axis=0).mean())


def align_face(image: Image.Image | np.ndarray, landmarks: np.ndarray) -> AlignedFace:
    """Resizes and crops a face to 224 x 224 by its five landmarks.

    As in the original ``align_img``: bicubic resize of the whole image by Pillow to truncated sizes, then a crop with
    black padding.

    Args:
        image: RGB image, or (H, W, 3) uint8.
        landmarks: (5, 2) or (68, 2) landmarks, x and y in pixels, y down.

    Raises:
        ValueError: If the landmarks do not allow an alignment.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width, height = picture.size
    points = five_points(np.asarray(landmarks, dtype=np.float64)).copy()
    points[:, 1] = height - 1 - points[:, 1]
    origin, unit = scaled_orthography(points)
    if unit < 1e-6 * max(width, height):
        raise ValueError("E-FID: the five landmarks coincide, so the face cannot be aligned; check the landmarks")
    scale = FACE_SCALE / unit
    w, h = int(width * scale), int(height * scale)
    left = int(w / 2 - CROP_SIZE / 2 + (origin[0] - width / 2) * scale)
    top = int(h / 2 - CROP_SIZE / 2 + (height / 2 - origin[1]) * scale)
    if min(w, h) < 1 or max(w, h) > 20_000:
        raise ValueError(
            f"E-FID: the landmarks would resize {width} x {height} to {w} x {h} pixels, expected 1 to 20000; check them"
        )
    resized = picture.convert("RGB").resize((w, h), resample=Image.Resampling.BICUBIC)
    crop = resized.crop((left, top, left + CROP_SIZE, top + CROP_SIZE))
    moved = (points - origin + [width / 2, height / 2]) * scale - [w / 2 - CROP_SIZE / 2, h / 2 - CROP_SIZE / 2]
    transform = (float(width), float(height), scale, float(origin[0]), float(origin[1]))
    return AlignedFace(np.asarray(crop), transform, moved)


def ddfa_roi(landmarks: np.ndarray) -> tuple[int, int, int, int]:
    """Returns 3DDFA_V2's crop box (left, top, right, bottom) for (P, 2) landmarks of the whole face, pixels.

    A square whose side is the diagonal of the landmarks' square bounding box (utils/functions.py of 3DDFA_V2).
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    centre, radius = (low + high) / 2, float((high - low).max()) / 2
    half = radius * 2**0.5
    left, top = np.round(centre - half).astype(int)
    right, bottom = np.round(centre + half).astype(int)
    return int(left), int(top), int(right), int(bottom)


def ddfa_crop(image: np.ndarray, box: tuple[int, int, int, int], size: int = 120) -> np.ndarray:
    """Crops a box and resizes it to (size, size, 3) uint8 RGB, bilinear, black outside the image.

    Raises:
        ValueError: If the box is empty.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise ValueError(f"E-FID: the face box {box} is empty; check the landmarks")
    crop = Image.fromarray(image).crop(box)
    # ``transform`` samples at half-pixel centres without antialiasing, like OpenCV's linear resize.
    return np.asarray(
        crop.transform((size, size), Image.Transform.EXTENT, (0, 0, *crop.size), resample=Image.Resampling.BILINEAR)
    )
