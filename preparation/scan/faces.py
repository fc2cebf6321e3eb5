"""Measures of the face in one shot: presence, size, place, motion, pose, identity and sharpness.

Shapes: F frames, P landmarks, H x W pixels.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import laplace, uniform_filter1d

from encoders.landmarks.boxes import face_extents
from encoders.protocols import Face, LandmarkScheme
from preparation.scan.identity import identity_shape
from preparation.speaker_crop import TOLERATED, longest_run

SHARP_SIDE = 160  # pixels; larger faces are reduced to it, so that sharpness compares what a crop will show
BLUR_SPAN = 9  # pixels; length of the blur that the picture is compared with
# Upper and lower inner lip; nose tip, chin and top, whose distances give the opening of the jaw.
INNER_LIPS: dict[LandmarkScheme, tuple[int, int]] = {"mediapipe478": (13, 14), "ibug68": (62, 66)}
JAW: dict[LandmarkScheme, tuple[int, int, int]] = {"mediapipe478": (1, 152, 10), "ibug68": (30, 8, 27)}


def jaw_opening(faces: list[Face | None], scheme: LandmarkScheme) -> np.ndarray:
    """(F,) distance of nose tip and chin over that of nose tip and the face's top; NaN without a face."""
    tip, chin, top = JAW[scheme]
    return _ratio(faces, (tip, chin), (tip, top))


def face_sizes(faces: list[Face | None], scheme: LandmarkScheme) -> np.ndarray:
    """(F,) longer side of the face from chin to hairline, pixels; NaN without a face."""
    found = np.full(len(faces), np.nan)
    for place, face in enumerate(faces):
        if face is not None:
            box = face_extents(face.landmarks[None], scheme)[0]
            found[place] = (box[2:] - box[:2]).max()
    return found


def lip_opening(faces: list[Face | None], scheme: LandmarkScheme) -> np.ndarray:
    """(F,) distance of the inner lips over that of chin and the face's top; NaN without a face."""
    _, chin, top = JAW[scheme]
    return _ratio(faces, INNER_LIPS[scheme], (chin, top))


def _ratio(faces: list[Face | None], over: tuple[int, int], under: tuple[int, int]) -> np.ndarray:
    def distance(face: Face, ends: tuple[int, int]) -> float:
        a, b = face.landmarks[list(ends)]
        return float(np.hypot(*(a - b)))

    return np.array([np.nan if f is None else distance(f, over) / max(distance(f, under), 1e-6) for f in faces])


def face_measures(
    faces: list[Face | None], scheme: LandmarkScheme, size: tuple[int, int]
) -> dict[str, float | int | list[float] | None]:
    """Columns of a shot's face; only ``face_share`` and ``face_gap`` if there is none.

    Args:
        faces: Face in every frame of the shot, None where it was not found.
        scheme: Landmark scheme.
        size: (width, height) of the pictures.
    """
    detected = np.array([face is not None for face in faces], bool)
    found: dict[str, float | int | list[float] | None] = {
        "face_share": float(detected.mean()) if len(detected) else 0.0,
        "face_gap": longest_run(~detected),
    }
    seen = [face for face in faces if face is not None]
    if not seen:
        return found
    landmarks = np.stack([face.landmarks for face in seen])
    extents = face_extents(landmarks, scheme)
    sides = (extents[:, 2:] - extents[:, :2]).max(1)
    centres = (extents[:, :2] + extents[:, 2:]) / 2
    picture = np.array([*size, *size], np.float64)
    inside = np.clip(extents, 0, picture)
    area = (extents[:, 2:] - extents[:, :2]).prod(1)
    outside = np.sort(1 - (inside[:, 2:] - inside[:, :2]).prod(1) / np.maximum(area, 1e-9))
    union = np.concatenate([inside[:, :2].min(0), inside[:, 2:].max(0)])
    following = np.diff(np.flatnonzero(detected)) == 1
    moved = np.hypot(*np.diff(centres, axis=0).T)[following]
    found |= {
        "face_px": float(np.median(sides)),
        "span_px": float((union[2:] - union[:2]).max()),
        "face_x": float(np.median(centres[:, 0]) / size[0]),
        "face_y": float(np.median(centres[:, 1]) / size[1]),
        "face_motion": float(np.median(moved) / np.median(sides)) if len(moved) else None,
        "face_outside": float(outside[max(0, len(outside) - 1 - TOLERATED)]),
        "lip_motion": float(np.nanstd(lip_opening(faces, scheme))),
        "identity": identity_shape(seen, scheme),
    }
    return found | _pose_measures(seen, following)


def _pose_measures(seen: list[Face], following: np.ndarray) -> dict[str, float | int | list[float] | None]:
    turns = [face.rotation for face in seen if face.rotation is not None]
    if len(turns) < len(seen):
        return {}
    rotations = np.stack(turns).astype(np.float64)
    front = rotations[:, :, 2]  # the direction of the face in the camera's axes
    between = np.einsum("fij,fij->f", rotations[1:], rotations[:-1])[following]
    angles = np.degrees(np.arccos(np.clip((between - 1) / 2, -1, 1)))
    return {
        "yaw": float(np.median(np.degrees(np.arctan2(front[:, 0], front[:, 2])))),
        "pitch": float(np.median(np.degrees(np.arcsin(np.clip(-front[:, 1], -1, 1))))),
        "roll": float(np.median(np.degrees(np.arctan2(rotations[:, 1, 0], rotations[:, 1, 1])))),
        "turned": float(np.percentile(np.degrees(np.arccos(np.clip(front[:, 2], -1, 1))), 95)),
        "pose_motion": float(np.median(angles)) if len(angles) else None,
    }


def sharpness(picture: np.ndarray, face: Face, scheme: LandmarkScheme) -> tuple[float, float] | None:
    """Blur and sharpness of the face in one picture.

    Args:
        picture: (H, W, 3) uint8.
        face: Face in the picture.
        scheme: Landmark scheme.

    Returns:
        Blur in [0, 1] (Crete et al., "The blur effect", 2007: the share of the neighbouring differences that survives
        another blur), and the variance of the Laplacian over that of the grey levels. None for a plain or tiny face.
    """
    x0, y0, x1, y1 = face_extents(face.landmarks[None], scheme)[0]
    width, height = picture.shape[1], picture.shape[0]
    left, top, right, bottom = max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1))
    if right - left < 2 * BLUR_SPAN or bottom - top < 2 * BLUR_SPAN:
        return None
    grey = Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right])).convert("L")
    if max(grey.size) > SHARP_SIDE:
        scale = SHARP_SIDE / max(grey.size)
        grey = grey.resize((max(1, round(grey.width * scale)), max(1, round(grey.height * scale))), reducing_gap=3.0)
    values = np.asarray(grey, np.float32)
    spread = float(values.var())
    if spread < 4:
        return None
    blurs = []
    for axis in (0, 1):
        smooth = uniform_filter1d(values, BLUR_SPAN, axis=axis)
        before, after = np.abs(np.diff(values, axis=axis)), np.abs(np.diff(smooth, axis=axis))
        blurs.append(1 - float(np.maximum(before - after, 0).sum() / max(float(before.sum()), 1e-6)))
    return max(blurs), float(laplace(values).var() / spread)
