"""Shapes of a face: named polygons in a head frame, for all frames of a clip at once.

Head frame: x points to the picture's right, y down; the origin lies between the eyes and the nose, and its distance to
the crown is 1. Most shapes are the area between two curves over u in [-1, 1]. The visible part of an iris between the
lids, or of the teeth between the lips, is then an exact minimum of curves and needs no clipping.

Shapes: F frames, n points of a polygon.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from preparation.synthetic.motion import FACTOR_NAMES

# Parts in drawing order; the index of a part is its label in the picture.
PARTS = (
    "background", "hair_back", "neck", "neck_shadow", "clothes", "collar", "ear", "ear_inside", "skin", "beard",
    "cheek", "fold", "lid", "eye_white", "eye_shadow", "iris", "pupil", "glint", "lash", "nose_shadow", "nose_light",
    "nostril", "lip", "upper_lip", "lip_light", "mouth", "tongue", "teeth", "lip_line", "hair", "hair_shadow", "brow",
    "nose_fold", "frown",
)  # fmt: skip

CENTRE, UNIT = (0.5, 0.485), 0.35  # of the picture's side
NECK_PIVOT = 0.9

U = np.linspace(-1, 1, 25)
TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)


@dataclass
class FaceShape:
    """Shapes and landmarks of a clip's face. Coordinates are fractions of the picture's side.

    Attributes:
        layers: (part, (F, n, 2) points) from back to front.
        landmarks: (F, 68, 2) landmarks in the order of iBUG's 300-W.
        amounts: Part that fades into the skin -> (F,) visibility, 0 to 1.
        affine: (F, 2, 3) map from the head frame to the picture, without depth; used for shading.
    """

    layers: list[tuple[str, np.ndarray]] = field(default_factory=list)
    landmarks: np.ndarray = field(default_factory=lambda: np.zeros((0, 68, 2)))
    amounts: dict[str, np.ndarray] = field(default_factory=dict)
    affine: np.ndarray = field(default_factory=lambda: np.zeros((0, 2, 3)))


class HeadFrame:
    """Collects the layers of one clip.

    Args:
        factors: (F, K) factors in the order of ``FACTOR_NAMES``.

    Attributes:
        v: Name -> factor as an (F, 1) column.
        points: Landmark index -> (F, 2) in the head frame.
    """

    def __init__(self, factors: np.ndarray) -> None:
        self.v = {name: factors[:, column : column + 1].astype(np.float64) for column, name in enumerate(FACTOR_NAMES)}
        self.frames = len(factors)
        self.face = FaceShape()
        self.points: dict[int, np.ndarray] = {}

    def finish(self) -> FaceShape:
        """Returns the face, after all layers and landmarks were added."""
        face = self.face
        face.landmarks = self.project(np.stack([self.points[i] for i in range(68)], axis=1))
        corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        origin, x, y = self.project(np.broadcast_to(corners, (self.frames, 3, 2)), flat=True).transpose(1, 0, 2)
        face.affine = np.stack([x - origin, y - origin, origin], axis=2)
        return face

    def project(self, points: np.ndarray, *, flat: bool = False) -> np.ndarray:
        """Maps (F, n, 2) points from the head frame to the picture: yaw and pitch of an ellipsoid, roll, scale, shift.

        ``flat`` places the points at depth 0 instead of on the ellipsoid.
        """
        x, y = points[..., 0], points[..., 1]
        depth = np.zeros_like(x)
        if not flat:
            depth = 0.7 * np.sqrt(np.clip(1 - (x / 0.85) ** 2 - (y / 1.15) ** 2, 0, 1))
        x = x * np.cos(self.v["yaw"]) + depth * np.sin(self.v["yaw"])
        y = y * np.cos(self.v["pitch"]) + depth * np.sin(self.v["pitch"])
        roll, scale = self.v["roll"], self.v["scale"] * UNIT
        up = y - NECK_PIVOT
        return np.stack(
            [
                CENTRE[0] + self.v["shift_x"] + scale * (x * np.cos(roll) - up * np.sin(roll)),
                CENTRE[1] + self.v["shift_y"] + scale * (x * np.sin(roll) + up * np.cos(roll) + NECK_PIVOT),
            ],
            axis=-1,
        )

    def add(self, part: str, x: np.ndarray, y: np.ndarray) -> None:
        """Adds a polygon on the head; x and y broadcast to (F, n)."""
        x, y = np.broadcast_arrays(x, y)
        points = np.stack([x, y], axis=-1)
        self.face.layers.append((part, self.project(np.broadcast_to(points, (self.frames, *points.shape[-2:])))))

    def between(self, part: str, x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> None:
        """Adds the area between two curves over x, each (F, n); empty where ``top`` lies below ``bottom``."""
        x, top, bottom = np.broadcast_arrays(x, top, np.maximum(top, bottom))
        self.add(part, np.concatenate([x, x[:, ::-1]], 1), np.concatenate([top, bottom[:, ::-1]], 1))

    def stroke(self, part: str, x: np.ndarray, y: np.ndarray, thickness: np.ndarray | float) -> None:
        """Adds a line along (x, y), each (F, n); ``thickness`` may vary along it."""
        x, y = (np.broadcast_to(a, (self.frames, a.shape[-1])) for a in (np.atleast_2d(x), np.atleast_2d(y)))
        dx, dy = np.gradient(x, axis=1), np.gradient(y, axis=1)
        length = np.hypot(dx, dy) + 1e-9
        nx, ny = -dy / length * thickness / 2, dx / length * thickness / 2
        self.add(part, np.concatenate([x + nx, (x - nx)[:, ::-1]], 1), np.concatenate([y + ny, (y - ny)[:, ::-1]], 1))

    def ellipse(self, part: str, x: np.ndarray | float, y: np.ndarray | float, rx: float, ry: float) -> None:
        """Adds an ellipse on the head; its centre may differ between frames, (F, 1)."""
        self.add(part, x + rx * np.cos(TURN)[None], y + ry * np.sin(TURN)[None])

    def still(self, part: str, points: list[tuple[float, float]]) -> None:
        """Adds a polygon on the body, which moves by half of the head's shift."""
        shift = 0.5 * np.stack([self.v["shift_x"], self.v["shift_y"]], axis=-1)
        at = np.array(points)[None] * UNIT + np.array(CENTRE) + shift
        self.face.layers.append((part, at))

    def between_x(self, part: str, left: np.ndarray, right: np.ndarray, y: np.ndarray) -> None:
        """Adds the area between two curves over y, each (F, n)."""
        left, right, y = np.broadcast_arrays(left, right, y)
        self.add(part, np.concatenate([left, right[:, ::-1]], 1), np.concatenate([y, y[:, ::-1]], 1))

    def at(self, curve: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Evaluates an (F, n) curve over ``U`` at (F, m) values of u in [-1, 1] by linear interpolation."""
        u, curve = np.broadcast_to(u, (self.frames, u.shape[1])), np.broadcast_to(curve, (self.frames, len(U)))
        position = (u + 1) / 2 * (len(U) - 1)
        low = np.clip(position.astype(int), 0, len(U) - 2)
        rest = position - low
        return np.take_along_axis(curve, low, 1) * (1 - rest) + np.take_along_axis(curve, low + 1, 1) * rest
