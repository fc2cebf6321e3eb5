"""Rasterises faces: draws labelled polygons at a multiple of the size, averages them down and adds shading.

Shapes: F frames, S side of the picture in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw

from preparation.synthetic.shapes import PARTS, FaceShape
from preparation.synthetic.world import Colour, SyntheticPerson

LABELS = {part: number for number, part in enumerate(PARTS)}
_HEAD_PARTS = [number for part, number in LABELS.items() if number >= LABELS["ear"]]
_CANVAS = 768  # smallest side of the drawn canvas; polygon corners are rounded to its pixels


def supersampling(size: int) -> int:
    """Returns the factor between the canvas that polygons are drawn on and the picture."""
    return max(3, round(_CANVAS / size))


def render(identity: SyntheticPerson, face: FaceShape, size: int) -> Iterator[np.ndarray]:
    """Draws every frame.

    Args:
        identity: Speaker, who defines the colours.
        face: Shapes of all frames.
        size: Side S of the picture, pixels.

    Yields:
        (S, S, 3) uint8 RGB.

    Raises:
        ValueError: If ``size`` is under 32 or odd; H.264 needs even sides.
    """
    if size < 32 or size % 2:
        raise ValueError(f"size={size}: must be even and at least 32 pixels")
    fine = supersampling(size)
    base = _palette(identity)
    backdrop = _backdrop(identity, size)
    masks = np.zeros((256, 3), np.uint8)
    masks[LABELS["background"], 0] = 255
    masks[_HEAD_PARTS, 1] = 255
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    layers = [(LABELS[part], points * (size * fine)) for part, points in face.layers]
    for frame in range(len(face.landmarks)):
        canvas = Image.new("P", (size * fine, size * fine), LABELS["background"])
        draw = ImageDraw.Draw(canvas)
        for label, points in layers:
            draw.polygon(points[frame].ravel().tolist(), fill=label)
        canvas.putpalette(_faded(base, face, frame).ravel().tolist())
        colours = np.asarray(canvas.convert("RGB").reduce(fine), np.float32)
        canvas.putpalette(masks.ravel().tolist())
        mask = np.asarray(canvas.convert("RGB").reduce(fine), np.float32) / 255
        light = 1 + mask[..., 1] * (_light(face.affine[frame], grid) - 1)
        out = colours * light[..., None] + mask[..., :1] * backdrop
        yield np.clip(out + 0.5, 0, 255).astype(np.uint8)


def _light(affine: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Returns the (S, S) brightness of a rounded head lit from the upper left."""
    matrix, origin = affine[:, :2], affine[:, 2]
    inverse = np.linalg.inv(matrix).astype(np.float32)
    px, py = grid[None, :] - np.float32(origin[0]), grid[:, None] - np.float32(origin[1])
    x = (inverse[0, 0] * px + inverse[0, 1] * py) / np.float32(0.85)
    y = inverse[1, 0] * px + inverse[1, 1] * py
    edge = np.clip(x * x + y * y, 0, 1.4)
    return np.clip(1.06 - 0.07 * x - 0.06 * y - 0.13 * edge * edge, 0.7, 1.15)


def _backdrop(identity: SyntheticPerson, size: int) -> np.ndarray:
    """Returns the (S, S, 3) offset from the flat background: lighter above, darker below and at the sides."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    light = 0.10 - 0.22 * grid[:, None] - 0.25 * (grid[None, :] - 0.5) ** 2
    return light[..., None] * np.asarray(identity.background, np.float32)


def _mix(a: Colour | np.ndarray, b: Colour | np.ndarray, share: float) -> np.ndarray:
    return np.asarray(a, float) * (1 - share) + np.asarray(b, float) * share


def _palette(identity: SyntheticPerson) -> np.ndarray:
    """Returns the (256, 3) float colours of the parts; fading parts are at full strength."""
    skin, hair, lip = (np.asarray(c, float) for c in (identity.skin, identity.hair, identity.lip))
    dark = skin * (0.62, 0.55, 0.55)
    shade = skin * (0.84, 0.78, 0.76)
    brow = _mix(hair, (18, 12, 12), 0.65) if sum(identity.hair) < 420 else _mix(hair, (70, 44, 26), 0.7)
    clothes = np.asarray(identity.clothes, float)
    colours: dict[str, Colour | np.ndarray] = {
        "background": identity.background, "hair_back": hair * 0.72, "neck": skin * 0.93, "neck_shadow": shade,
        "clothes": clothes, "collar": clothes * 0.78, "ear": skin * 0.95, "ear_inside": shade, "skin": skin,
        "beard": _mix(skin, hair, 0.62), "cheek": _mix(skin, (235, 96, 96), 0.34), "fold": dark, "lid": shade,
        "eye_white": (250, 249, 246), "eye_shadow": (206, 206, 214), "iris": identity.eye, "pupil": (14, 12, 14),
        "glint": (255, 255, 255), "lash": (34, 24, 24), "nose_shadow": _mix(skin, shade, 0.75),
        "nose_light": _mix(skin, (255, 250, 240), 0.25), "nostril": skin * (0.42, 0.34, 0.34), "lip": lip,
        "upper_lip": lip * 0.84, "lip_light": _mix(lip, (255, 235, 235), 0.3), "mouth": (58, 14, 20),
        "tongue": (190, 84, 92), "teeth": (250, 248, 240), "lip_line": lip * 0.45, "hair": hair,
        "hair_shadow": _mix(hair, (255, 250, 240), 0.22), "brow": brow, "nose_fold": dark, "frown": dark,
    }  # fmt: skip
    palette = np.zeros((256, 3))
    for part, colour in colours.items():
        palette[LABELS[part]] = colour
    return palette


def _faded(palette: np.ndarray, face: FaceShape, frame: int) -> np.ndarray:
    """Returns the palette of one frame: fading parts are mixed with the skin colour."""
    out = palette.copy()
    for part, amount in face.amounts.items():
        out[LABELS[part]] = _mix(palette[LABELS["skin"]], palette[LABELS[part]], float(amount[frame]))
    return np.clip(out + 0.5, 0, 255).astype(np.uint8)
