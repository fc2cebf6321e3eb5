"""E-FID: how a face is aligned for Deep3DFaceRecon, and the distance of pooled expression coefficients.

EMO (Tian et al. 2024) defines E-FID in words only: expression parameters of a face reconstruction, then the Fréchet
distance. This reads it as Deep3DFaceRecon_pytorch's 64 expression coefficients of every frame, pooled.

Shapes: N images, H x W pixels, P landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

CROP_SIZE = 224
FACE_SCALE = 102.0  # pixels per unit of the template in the crop

# Five points of the mean face: left eye, right eye, nose, left and right mouth corner; y points up. Reduced from the
# 68 points of Deep3DFaceRecon_pytorch's BFM/similarity_Lm3D_all.mat.
TEMPLATE = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
# Of 68 points, counted from 1: nose tip, eye corners (averaged per eye), mouth corners.
_NOSE, _EYES, _MOUTH = 31, ((37, 40), (43, 46)), (49, 55)


@dataclass(frozen=True)
class AlignedFace:
    """A face cropped as Deep3DFaceRecon expects it.

    Attributes:
        image: (224, 224, 3) uint8 RGB, black outside the original.
        transform: width and height of the original, scale, and the template's origin x, y (y up) in it, pixels.
        landmarks: (5, 2) in the crop, y up.
    """

    image: np.ndarray
    transform: tuple[float, float, float, float, float]
    landmarks: np.ndarray


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """(68, 2) iBUG landmarks -> (5, 2): eye centres, nose tip, mouth corners; five points pass through.

    Raises:
        ValueError: for other shapes or values that are not finite.
    """
    if landmarks.shape not in ((5, 2), (68, 2)) or not np.isfinite(landmarks).all():
        raise ValueError(f"need (5, 2) or (68, 2) finite landmarks, got {landmarks.shape}")
    if len(landmarks) == 5:
        return landmarks
    eyes = [landmarks[[a - 1, b - 1]].mean(axis=0) for a, b in _EYES]
    return np.stack([*eyes, landmarks[_NOSE - 1], *(landmarks[i - 1] for i in _MOUTH)])


def scaled_orthography(landmarks: np.ndarray) -> tuple[np.ndarray, float]:
    """Least-squares weak perspective of ``TEMPLATE`` onto points: the origin (2,) and pixels per template unit.

    Source: the POS step of DeMenthon and Davis 1995, as Deep3DFaceRecon's util/preprocess.py solves it.
    """
    ones = np.ones((len(TEMPLATE), 1))
    solution, *_ = np.linalg.lstsq(np.hstack([TEMPLATE, ones]), landmarks.astype(np.float64), rcond=None)
    return solution[3], float(np.linalg.norm(solution[:3], axis=0).mean())


def align_face(image: Image.Image | np.ndarray, landmarks: np.ndarray) -> AlignedFace:
    """Resizes and crops a face to 224 x 224 by its five landmarks.

    Bicubic resize of the whole image by Pillow to truncated sizes, then a crop that pads black, as the original's
    ``align_img`` does.

    Args:
        image: RGB image, or (H, W, 3) uint8.
        landmarks: (5, 2) or (68, 2), x and y in pixels, y down.

    Raises:
        ValueError: if the landmarks are unusable.
    """
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    width, height = picture.size
    points = five_points(np.asarray(landmarks, dtype=np.float64)).copy()
    points[:, 1] = height - 1 - points[:, 1]
    origin, unit = scaled_orthography(points)
    if unit < 1e-6 * max(width, height):
        raise ValueError("the five landmarks coincide; the face cannot be aligned")
    scale = FACE_SCALE / unit
    w, h = int(width * scale), int(height * scale)
    left = int(w / 2 - CROP_SIZE / 2 + (origin[0] - width / 2) * scale)
    top = int(h / 2 - CROP_SIZE / 2 + (height / 2 - origin[1]) * scale)
    if min(w, h) < 1 or max(w, h) > 20_000:
        raise ValueError(f"aligning by these landmarks would resize {width} x {height} to {w} x {h} pixels")
    resized = picture.convert("RGB").resize((w, h), resample=Image.Resampling.BICUBIC)
    crop = resized.crop((left, top, left + CROP_SIZE, top + CROP_SIZE))
    moved = (points - origin + [width / 2, height / 2]) * scale - [w / 2 - CROP_SIZE / 2, h / 2 - CROP_SIZE / 2]
    transform = (float(width), float(height), scale, float(origin[0]), float(origin[1]))
    return AlignedFace(np.asarray(crop), transform, moved)


def ddfa_roi(landmarks: np.ndarray) -> tuple[int, int, int, int]:
    """3DDFA_V2's crop box (left, top, right, bottom) around (P, 2) landmarks of the whole face, pixels.

    A square about the landmarks' square hull, its side the hull's diagonal (utils/functions.py of 3DDFA_V2).
    """
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    centre, radius = (low + high) / 2, float((high - low).max()) / 2
    half = radius * 2**0.5
    left, top = np.round(centre - half).astype(int)
    right, bottom = np.round(centre + half).astype(int)
    return int(left), int(top), int(right), int(bottom)


def ddfa_crop(image: np.ndarray, box: tuple[int, int, int, int], size: int = 120) -> np.ndarray:
    """(size, size, 3) uint8 RGB of a box that may reach beyond the image, black there, bilinear.

    Raises:
        ValueError: if the box is empty.
    """
    left, top, right, bottom = box
    if right <= left or bottom <= top:
        raise ValueError(f"empty face box {box}")
    crop = Image.fromarray(image).crop(box)
    # A transform samples without Pillow's antialiasing, at half-pixel centres, as OpenCV's linear resize does.
    return np.asarray(
        crop.transform((size, size), Image.Transform.EXTENT, (0, 0, *crop.size), resample=Image.Resampling.BILINEAR)
    )
