"""Builds the shapes and the 68 landmarks of one speaker's face from factors.

Shapes: F frames, n points of a polygon.
"""

from __future__ import annotations

import numpy as np

from preparation.synthetic.hair import hair_above, hair_behind
from preparation.synthetic.shapes import TURN, FaceShape, HeadFrame, U
from preparation.synthetic.world import SyntheticPerson

EAR_Y, CROWN, CHIN = -0.05, -1.0, 0.95
EYE_X, EYE_Y, EYE_W, LID_UP, LID_DOWN = 0.34, -0.07, 0.205, 0.155, 0.09
MOUTH_Y, MOUTH_W, MOUTH_OPEN, JAW_DROP = 0.57, 0.33, 0.32, 0.11

_HALF_TURN = np.linspace(0, np.pi, 33)


def build_face(identity: SyntheticPerson, factors: np.ndarray) -> FaceShape:
    """Builds the shapes and landmarks of every frame from (F, K) factors."""
    return _Builder(identity, factors).build()


class _Builder(HeadFrame):
    """Draws one speaker, from back to front."""

    def __init__(self, identity: SyntheticPerson, factors: np.ndarray) -> None:
        super().__init__(factors)
        self.who = identity
        self.width = 0.76 * identity.face_width
        self.chin = CHIN * identity.face_length

    def build(self) -> FaceShape:
        self._behind()
        self._head()
        for side in (-1, 1):
            self._eye(side)
        self._nose()
        self._mouth()
        hair_above(self, self.who.hair_style, self.width)
        for side in (-1, 1):
            self._brow(side)
        self._frown()
        return self.finish()

    def _behind(self) -> None:
        who = self.who
        hair_behind(self, who.hair_style, self.width)
        neck = 0.33 if who.female else 0.42
        self.still("neck", [(-neck, 0.4), (neck, 0.4), (neck + 0.08, 1.3), (0.0, 1.45), (-neck - 0.08, 1.3)])
        self.still("neck_shadow", [(-neck, 0.6), (neck, 0.6), (neck, 1.02), (0.0, 1.16), (-neck, 1.02)])
        slope = 1.05 if who.female else 1.25
        self.still(
            "clothes",
            [(-neck - 0.1, 1.16), (0.0, 1.42), (neck + 0.1, 1.16), (slope, 1.32), (slope + 0.2, 1.75),
             (-slope - 0.2, 1.75), (-slope, 1.32)],
        )  # fmt: skip
        for side in (-1, 1):
            self.still(
                "collar", [(side * (neck + 0.1), 1.12), (0.0, 1.42), (side * 0.08, 1.56), (side * (neck + 0.2), 1.22)]
            )

    def _outline(self, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower outline of the head, from ear (0) over chin (pi / 2) to ear (pi); an open mouth lowers the chin."""
        taper = 1.0 - 0.32 * self.who.jaw
        x = -self.width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** taper
        chin = self.chin - EAR_Y + JAW_DROP * self.v["lip_opening"]
        return x[None], EAR_Y + np.sin(angle)[None] * chin

    def _head(self) -> None:
        for side in (-1, 1):
            self.ellipse("ear", side * (self.width + 0.03), 0.06, 0.11, 0.19)
            self.ellipse("ear_inside", side * (self.width + 0.05), 0.07, 0.05, 0.11)
        x, y = self._outline(_HALF_TURN)
        up_x, up_y = self.width * np.cos(_HALF_TURN)[None], EAR_Y - (EAR_Y - CROWN) * np.sin(_HALF_TURN)[None]
        up_y = np.broadcast_to(up_y, (self.frames, up_y.shape[1]))
        self.add("skin", np.concatenate([x, up_x], 1).repeat(self.frames, 0), np.concatenate([y, up_y], 1))
        jaw_x, jaw_y = self._outline(np.linspace(0, np.pi, 17))
        for i in range(17):
            self.points[i] = np.stack([np.broadcast_to(jaw_x[:, i], self.frames), jaw_y[:, i]], axis=-1)
        if self.who.beard:
            x, y = self._outline(np.linspace(0.06 * np.pi, 0.94 * np.pi, 49))
            side = np.abs(x) / self.width
            # Upper edge of the beard: moustache in the middle, free cheeks, sideburns up to the ears.
            top = 0.42 + 0.24 * np.exp(-(((side - 0.68) / 0.17) ** 2)) - 0.4 * np.clip((side - 0.85) / 0.15, 0, 1)
            self.between("beard", 0.985 * x, np.minimum(top, y), y)
        raised = self.v["cheek"]
        for side in (-1, 1):
            self.ellipse("cheek", side * 0.47, 0.3 - 0.07 * raised, 0.15, 0.11)
        self.face.amounts["cheek"] = np.clip(0.25 + 0.75 * raised[:, 0], 0, 1)

    def _eye(self, side: int) -> None:
        """Draws an eye. Side -1 is the left side of the picture and the speaker's right eye."""
        name = "right" if side < 0 else "left"
        who, v = self.who, self.v
        opening = v[f"eye_opening_{name}"]
        cx, cy = side * EYE_X * who.eye_spacing, EYE_Y
        half, up = EYE_W * who.eye_size, LID_UP * who.eye_size
        # Near the nose a lowered brow lowers the lid, and a raised one raises it.
        slant = 0.3 * (v[f"brow_inner_{name}"] - v[f"brow_outer_{name}"]) * -side
        u = U[None]
        shut_y = cy + 0.04
        down = LID_DOWN * who.eye_size * (1 - 0.75 * v["squint"])
        bow = np.clip(1 - u**2, 0, 1)
        lower = shut_y + (down - 0.04) * bow**0.8 * np.minimum(1, 0.4 + 0.6 * opening) - 0.05 * v["squint"] * bow
        upper = np.minimum(shut_y - (up + 0.04) * opening * bow**0.65 * (1 + slant * u), lower)
        x = cx + half * u
        lid_top = shut_y - (up * np.maximum(1.0, opening) + 0.085) * bow**0.55
        self.between("lid", cx + (half + 0.015) * u, np.minimum(lid_top, upper), lower)
        self.between("eye_white", x, upper, lower)
        self.between("eye_shadow", x, upper, np.minimum(upper + 0.035, lower))
        ix, iy, radius = cx + 0.075 * v["gaze_x"], cy + 0.0 + 0.055 * v["gaze_y"], 0.108 * who.eye_size
        for part, r in (("iris", radius), ("pupil", 0.5 * radius)):
            disc_x = ix + r * u
            at = np.clip((disc_x - cx) / half, -1, 1)
            arc = r * np.sqrt(bow)
            top, bottom = (self.at(curve, at) for curve in (upper, lower))
            self.between(part, disc_x, np.clip(iy - arc, top, bottom), np.clip(iy + arc, top, bottom))
        glint_x, glint_y = ix - 0.035, np.maximum(iy - 0.04, self.at(upper, np.clip((ix - cx) / half, -1, 1)) + 0.045)
        self._glint(glint_x, glint_y, 0.026, opening > 0.45)
        lash = 0.034 * (1.25 if who.female else 1.0) * (0.45 + 0.55 * bow**0.5)
        self.stroke("lash", x, upper, lash)
        if who.female:
            tip = np.linspace(0, 1, 6)[None]
            outer_y = self.at(upper, np.full((self.frames, 1), side * 0.85))
            self.stroke("lash", cx + side * half * (0.82 + 0.36 * tip), outer_y - 0.055 * tip, 0.034 * (1.1 - tip))
        self.stroke("fold", x, lower + 0.012, 0.014 * bow)
        first = 36 if side < 0 else 42
        # Landmarks 36 to 39 follow the upper lid from left to right, 40 and 41 the lower lid back.
        for number, (spot, curve) in enumerate(
            ((-1.0, upper), (-0.36, upper), (0.36, upper), (1.0, upper), (0.36, lower), (-0.36, lower))
        ):
            place = np.full((self.frames, 1), spot)
            across = np.full(self.frames, cx + half * spot)
            self.points[first + number] = np.stack([across, self.at(curve, place)[:, 0]], axis=-1)

    def _glint(self, x: np.ndarray, y: np.ndarray, radius: float, shown: np.ndarray) -> None:
        r = np.where(shown, radius, 0.0)
        self.add("glint", x + r * np.cos(TURN)[None], y + r * np.sin(TURN)[None])

    def _brow(self, side: int) -> None:
        name = "right" if side < 0 else "left"
        who, v = self.who, self.v
        inner, outer = v[f"brow_inner_{name}"], v[f"brow_outer_{name}"]
        t = np.linspace(0, 1, 17)[None]  # from the nose outwards
        x_in = 0.13 - 0.055 * v["brow_squeeze"]
        x = side * who.eye_spacing * (x_in + (0.58 - x_in) * t)
        rest = -0.335 - who.brow_height - 0.075 * np.sin(np.pi * np.clip(t * 0.85 + 0.1, 0, 1))
        lift = (np.maximum(inner, 0) * 0.17 + np.minimum(inner, 0) * 0.13) * (1 - t) ** 1.3
        lift = lift + (np.maximum(outer, 0) * 0.19 + np.minimum(outer, 0) * 0.11) * np.sin(np.pi / 2 * t) ** 1.3
        y = rest - lift
        thick = 0.075 * who.brow_thickness * (1 - 0.72 * t**2) * (0.75 + 0.25 * np.minimum(1, t * 5))
        self.stroke("brow", x, y, thick)
        for number in range(5):
            column = number * 4
            # Landmarks 17 to 21 and 22 to 26 run from left to right in the picture.
            landmark = 21 - number if side < 0 else 22 + number
            self.points[landmark] = np.stack([x[:, column], y[:, column]], axis=-1)

    def _frown(self) -> None:
        squeeze, wrinkle = self.v["brow_squeeze"], self.v["nose_wrinkle"]
        line = np.linspace(-1, 1, 7)[None]
        for side in (-1, 1):
            self.stroke("frown", side * (0.055 + 0.012 * line**2), -0.3 + 0.09 * line, 0.026 * (1 - line**2))
        for row in (0.0, 0.075):
            self.stroke("nose_fold", 0.11 * line, -0.1 + row + 0.025 * line**2, 0.024 * (1 - line**2))
        self.face.amounts["frown"] = np.clip(squeeze[:, 0], 0, 1)
        self.face.amounts["nose_fold"] = np.clip(wrinkle[:, 0], 0, 1)

    def _nose(self) -> None:
        who, wrinkle = self.who, self.v["nose_wrinkle"]
        tip = 0.25 * who.nose_length - 0.035 * wrinkle
        wing = (0.125 + 0.025 * wrinkle) * who.nose_width
        u = U[None]
        # A shadow on one side of the bridge and below the tip, a highlight on the other side.
        bridge = np.linspace(0, 1, 12)[None]
        self.between_x("nose_shadow", -0.05 - 0.05 * bridge**2, -0.03 - 0.02 * bridge, -0.12 + (tip + 0.1) * bridge)
        self.between_x("nose_light", 0.0 + 0.0 * bridge, 0.03 + 0.03 * bridge**2, -0.1 + (tip + 0.08) * bridge)
        base = tip + 0.055
        self.between("nose_shadow", wing * u, tip + 0.012 + 0.02 * u**2, base + 0.022 * (1 - u**2) - 0.035 * u**6)
        for side in (-1, 1):
            centre = side * 0.5 * wing
            self.between(
                "nostril", centre + 0.28 * wing * u, base - 0.012 - 0.014 * (1 - u**2), base + 0.012 * (1 - u**2)
            )
        top = -0.09
        for number in range(4):
            y = top + (tip - top) * number / 3
            self.points[27 + number] = np.stack([np.zeros(self.frames), np.broadcast_to(y, (self.frames, 1))[:, 0]], -1)
        for number, at in enumerate((-1.0, -0.5, 0.0, 0.5, 1.0)):
            y = base + 0.022 * (1 - at**2) - 0.035 * at**6
            self.points[31 + number] = np.stack(
                [np.broadcast_to(wing * at, (self.frames, 1))[:, 0], np.broadcast_to(y, (self.frames, 1))[:, 0]],
                axis=-1,
            )

    def _mouth(self) -> None:
        who, v = self.who, self.v
        u = U[None]
        opening, spread, rounding = np.clip(v["lip_opening"], 0, 1.2), v["lip_width"], v["lip_rounding"]
        corner = {-1: v["corner_right"], 1: v["corner_left"]}
        mean_corner = (corner[-1] + corner[1]) / 2
        half = (
            MOUTH_W
            * who.mouth_width
            * (1 + 0.2 * spread - 0.14 * rounding + 0.13 * v["mouth_stretch"] + 0.06 * np.maximum(mean_corner, 0))
        )
        side = np.where(u < 0, corner[-1], corner[1])
        # The middle of the mouth sinks slightly when the corners rise.
        line = MOUTH_Y - 0.15 * side * np.abs(u) ** 1.7 + 0.045 * mean_corner * (1 - u**2)
        line = line + 0.05 * opening * np.abs(u) ** 1.5  # an open jaw lowers the corners
        x = half * u
        inner = np.clip(1 - (u / 0.93) ** 2, 0, 1)
        exponent = 0.75 - 0.25 * rounding
        height = MOUTH_OPEN * opening
        raise_up = 0.055 * v["upper_lip_raise"]
        top = line - (0.32 * height + 0.35 * raise_up) * inner**exponent
        bottom = line + 0.68 * height * inner**exponent
        pout = 1 + 0.35 * rounding - 0.2 * np.maximum(v["mouth_stretch"], 0) - 0.15 * np.maximum(mean_corner, 0)
        thick = who.lip_thickness * pout
        outer = np.clip(1 - u**2, 0, 1)
        bow = 1 - 0.22 * np.exp(-((u / 0.13) ** 2)) + 0.1 * np.exp(-(((np.abs(u) - 0.27) / 0.16) ** 2))
        over = top - 0.062 * thick * outer**0.75 * bow - raise_up * outer
        under = bottom + 0.082 * thick * outer**0.6

        for name, sign in (("right", -1), ("left", 1)) if not who.beard else ():
            fold = np.linspace(0, 1, 12)[None]
            out = half + 0.03 + 0.05 * np.sin(np.pi * fold) * np.abs(v[f"corner_{name}"])
            down = MOUTH_Y + 0.02 - 0.15 * v[f"corner_{name}"] - 0.33
            self.stroke("fold", sign * (0.17 + (out - 0.17) * fold**0.6), 0.33 + down * fold, 0.022)
        smile = np.maximum(np.maximum(corner[-1], corner[1]), v["upper_lip_raise"])
        self.face.amounts["fold"] = np.clip(0.12 + 0.7 * smile[:, 0], 0, 1)

        self.between("lip", x, line, under)
        self.between("upper_lip", x, over, np.maximum(top, np.minimum(line, bottom)))
        mid = (bottom + under) / 2
        self.between(
            "lip_light", 0.45 * x, self.at(mid, 0.45 * u) - 0.012 * outer, self.at(mid, 0.45 * u) + 0.012 * outer
        )
        self.between("mouth", x, top, bottom)
        tongue = bottom - np.clip(height - 0.13, 0, 0.13) * np.clip(1 - (u / 0.6) ** 2, 0, 1) ** 0.5
        self.between("tongue", x, np.maximum(top, tongue), bottom)
        teeth = np.minimum(0.075, 0.62 * height) * np.clip(1 - (u / 0.82) ** 4, 0, 1)
        self.between("teeth", x, top, np.minimum(top + teeth, bottom))
        self.stroke("lip_line", x, np.where(opening > 0.04, top, line), 0.022 * (0.35 + 0.65 * outer))

        def landmark(number: int, at: float, curve: np.ndarray) -> None:
            place = np.full((self.frames, 1), at)
            y = self.at(np.broadcast_to(curve, (self.frames, len(U))), place)
            self.points[number] = np.stack([half[:, 0] * at, y[:, 0]], axis=-1)

        for number, at in enumerate((-1.0, -0.64, -0.26, 0.0, 0.26, 0.64, 1.0)):
            landmark(48 + number, at, over if abs(at) < 1 else line)
        for number, at in enumerate((0.64, 0.26, 0.0, -0.26, -0.64)):
            landmark(55 + number, at, under)
        for number, (at, curve) in enumerate(
            (
                (-0.88, line),
                (-0.3, top),
                (0.0, top),
                (0.3, top),
                (0.88, line),
                (0.3, bottom),
                (0.0, bottom),
                (-0.3, bottom),
            )
        ):
            landmark(60 + number, at, curve)
