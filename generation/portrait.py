"""The portrait: the face found, cropped and boxed exactly as in shards, and put back into its picture.

Shapes: H x W picture, S side of the network's frames, d_e expression width. Boxes are x0, y0, x1, y1 in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from configs.preparation import FaceConfig
from datamodules.schema import PORTRAIT_SIZE
from encoders.landmarks.boxes import face_boxes
from encoders.protocols import LandmarkDetector, MotionEncoder
from generation.errors import GenerationError
from preparation.clip_source import Rejected
from preparation.expression import read_picture
from preparation.speaker_crop import crop_frames, locate_face

SMALLEST = 64  # pixels
FEATHER = 0.08  # share of the crop's side over which it blends into the picture


@dataclass(frozen=True)
class PreparedPortrait:
    """A face to drive.

    Attributes:
        picture: (H, W, 3) uint8, upright.
        crop: left, top and side of the square around the face, pixels of the picture.
        frame: (S, S, 3) uint8, the crop at the network's size.
        x_ref: (256, 256, 3) uint8, the crop as V-AID sees it.
        boxes: (2, 4) float32 lip and face boxes in pixels of ``frame``.
        e_ref: (d_e,) expression latent of the motion encoder, not standardised.
        notes: what a person should know.
    """

    picture: np.ndarray
    crop: tuple[int, int, int]
    frame: np.ndarray
    x_ref: np.ndarray
    boxes: np.ndarray
    e_ref: Tensor
    notes: tuple[str, ...] = ()


def read_portrait(
    path: Path, detector: LandmarkDetector, motion: MotionEncoder, frame_size: int, face: FaceConfig
) -> PreparedPortrait:
    """Reads a picture and finds its face; of several the largest is taken, and a note says so.

    Args:
        path: PNG, JPEG, WebP, ...; turned upright as its EXIF orientation says, on white where it is transparent.
        detector: finds the face; a sidecar detector reads ``face.csv`` beside ``face.png``.
        motion: measures its expression.
        frame_size: S.
        face: crop and limits, as they were in preparation.

    Raises:
        UserError: for a file that is missing or no picture.
        GenerationError: for a picture under 64 pixels, or a face that is missing, too small or cut off.
    """
    picture = read_picture(path)
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        raise GenerationError(
            f"portrait={path}: is {width}x{height} pixels, at least {SMALLEST}x{SMALLEST} are needed; the video has "
            f"{frame_size}x{frame_size}"
        )
    try:
        track, crop, several = locate_face(detector, [picture], path, replace(face, max_several=1.0), frame_size)
    except Rejected as rejected:
        # The key of preparation, as it is called here.
        detail = rejected.detail.replace("encoders.landmarks.name=", "landmarks=")
        raise GenerationError(f"portrait={path}: {detail}") from rejected
    # Copies, since what Pillow gives may not be written to, at which torch takes offence.
    frame, x_ref = (next(crop_frames([picture], crop, side)).copy() for side in (frame_size, PORTRAIT_SIZE))
    left, top, side = crop
    inside = track.cropped(left, top, frame_size / side)
    try:
        _, expression = motion(frame[None], inside)
    except ValueError as error:
        raise GenerationError(f"portrait={path}: its expression cannot be measured ({error})") from error
    if not expression.isfinite().all():
        raise GenerationError(f"portrait={path}: its expression latent holds NaN or infinite values; is the face seen?")
    notes = []
    if several:
        notes.append(f"portrait={path}: shows several faces; the largest was taken")
    if side < frame_size // 2:
        notes.append(f"portrait={path}: the face's surroundings are {side} pixels wide, enlarged to {frame_size}")
    return PreparedPortrait(
        picture=picture,
        crop=crop,
        frame=frame,
        x_ref=x_ref,
        boxes=face_boxes(inside.landmarks, inside.scheme, face.box_scale, (frame_size, frame_size))[0],
        e_ref=expression[0],
        notes=tuple(notes),
    )


class PasteBack:
    """Puts generated crops back where the face was, blended over the crop's margin.

    Args:
        portrait: whose picture is around the crop.

    Attributes:
        size: width and height of the result, even as H.264 needs them: an odd last column or row is left out.
    """

    def __init__(self, portrait: PreparedPortrait) -> None:
        height, width = (length // 2 * 2 for length in portrait.picture.shape[:2])
        self.size = (width, height)
        self._picture = portrait.picture[:height, :width]
        left, top, self._side = portrait.crop
        self._rows, self._columns = slice(top, top + self._side), slice(left, left + self._side)
        self._around = self._picture[self._rows, self._columns].astype(np.float32)
        # Where the crop ends with the picture there is nothing to blend with.
        rows = _ramp(self._side, top > 0, top + self._side < height)
        columns = _ramp(self._side, left > 0, left + self._side < width)
        weight = rows[:, None] * columns[None, :]
        self._weight = weight[: self._around.shape[0], : self._around.shape[1], None]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 -> the whole picture, (height, width, 3) uint8."""
        face = np.asarray(Image.fromarray(frame).resize((self._side, self._side), Image.Resampling.LANCZOS))
        face = face[: self._around.shape[0], : self._around.shape[1]]
        blended = self._around + self._weight * (face - self._around)
        whole = self._picture.copy()
        whole[self._rows, self._columns] = blended.round().astype(np.uint8)
        return whole


def _ramp(side: int, at_start: bool, at_end: bool) -> np.ndarray:
    """(side,) float32 weights: 1 inside, falling smoothly towards the ends that blend."""
    place = (np.arange(side, dtype=np.float32) + 0.5) / (FEATHER * side)
    rising = np.clip(place, 0, 1)
    smooth = rising**2 * (3 - 2 * rising)
    return (smooth if at_start else 1) * (smooth[::-1] if at_end else np.ones(side, np.float32))
