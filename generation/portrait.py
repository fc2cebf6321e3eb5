"""Reads portraits (face detection, crop and boxes exactly as in shards) and pastes generated faces back into them.

Shapes: H x W image, S side of the network's frames, d_e expression width. Boxes are (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from configs.preparation import FaceConfig
from datamodules.schema import PORTRAIT_SIZE
from encoders.landmarks.boxes import face_boxes, face_extents
from encoders.protocols import LandmarkDetector, MotionEncoder
from generation.errors import GenerationError
from media import FrameReader, NotMedia, read_picture
from preparation.clip_source import Reason, Rejected
from preparation.speaker_crop import crop_frames, locate_face
from runtime.errors import UserError

MIN_SIZE = 64  # pixels
ENLARGED = (2, 5)  # parts of a picture's longer side in which a small face is looked for
SMALLEST_PART = 256  # pixels; in smaller ones a detector misses nothing
FEATHER = 0.08  # share of the crop's side over which the crop is blended into the image


@dataclass(frozen=True)
class PreparedPortrait:
    """A face to animate.

    Attributes:
        picture: (H, W, 3) uint8 image, upright.
        crop: (left, top, side) of the square around the face, in pixels of ``picture``.
        frame: (S, S, 3) uint8 crop at the network's size.
        x_ref: (256, 256, 3) uint8 crop at V-AID's size.
        boxes: (2, 4) float32 lip and face boxes in pixels of ``frame``.
        e_ref: (d_e,) expression latent of the motion encoder, not standardised.
        notes: Notes for the user.
    """

    picture: np.ndarray
    crop: tuple[int, int, int]
    frame: np.ndarray
    x_ref: np.ndarray
    boxes: np.ndarray
    e_ref: Tensor
    notes: tuple[str, ...] = ()


def read_portrait(
    path: Path,
    detector: LandmarkDetector,
    motion: MotionEncoder,
    frame_size: int,
    face: FaceConfig,
    time: float | None = None,
) -> PreparedPortrait:
    """Reads an image and finds its face. Of several faces the largest is taken and a note is added.

    Args:
        path: Image file (PNG, JPEG, WebP, ...), rotated by its EXIF orientation, white where transparent; or a video.
        detector: Face detector; the sidecar detector reads ``face.csv`` for ``face.png``.
        motion: Motion encoder that extracts the expression.
        frame_size: Side S of the network's frames.
        face: Crop and limits of faces, as in preparation.
        time: Time of a video's frame, seconds; None for the first one.

    Raises:
        UserError: If the file is missing or neither an image nor a video, or a video ends before ``time``.
        GenerationError: If the image has a side under 64 pixels, or the face is missing, too small or cut off.
    """
    picture, notes = _picture(path, time)
    height, width = picture.shape[:2]
    if min(height, width) < MIN_SIZE:
        raise GenerationError(
            f"portrait={path}: is {width}x{height} pixels, at least {MIN_SIZE}x{MIN_SIZE} are needed; choose a larger "
            f"picture (the video has {frame_size}x{frame_size})"
        )
    try:
        one = replace(face, max_several=1.0)
        track, crop, several = locate_face(detector, [picture], path, one, frame_size, time or 0.0)
    except Rejected as rejected:
        # Preparation's name of the key, replaced by the name it has here.
        detail = rejected.detail.replace("encoders.landmarks.name=", "landmarks=")
        if rejected.reason == Reason.NO_FACE:
            detail = _far_away(detector, picture) or detail
        elif rejected.reason == Reason.FACE_TOO_SMALL:
            detail += "; choose a larger picture of the face"
        raise GenerationError(f"portrait={path}: {detail}") from rejected
    # Copy: Pillow's arrays are read-only, and torch warns about that.
    frame, x_ref = (next(crop_frames([picture], crop, side)).copy() for side in (frame_size, PORTRAIT_SIZE))
    left, top, side = crop
    inside = track.cropped(left, top, frame_size / side)
    try:
        _, expression = motion(frame[None], inside)
    except ValueError as error:
        raise GenerationError(
            f"portrait={path}: its expression cannot be measured ({error}); choose a portrait that shows the whole face"
        ) from error
    if not expression.isfinite().all():
        raise GenerationError(
            f"portrait={path}: its expression latent holds NaN or infinite values; choose a portrait that shows the "
            "whole face"
        )
    if several:
        notes.append(f"portrait={path}: shows several faces; the largest is used")
    if side < frame_size // 2:
        notes.append(f"portrait={path}: the crop around the face is {side} pixels wide; enlarged to {frame_size}")
    return PreparedPortrait(
        picture=picture,
        crop=crop,
        frame=frame,
        x_ref=x_ref,
        boxes=face_boxes(inside.landmarks, inside.scheme, face.box_scale, (frame_size, frame_size))[0],
        e_ref=expression[0],
        notes=tuple(notes),
    )


def _picture(path: Path, time: float | None) -> tuple[np.ndarray, list[str]]:
    """Reads a picture, or the frame of a video; returns (H, W, 3) uint8 and notes.

    Raises:
        GenerationError: If a time is given for a picture.
        MediaError: If the file cannot be read.
    """
    try:
        picture = read_picture(path)
    except NotMedia as error:
        no_picture = error
    else:
        if time is not None:
            raise GenerationError(
                f"portrait_time={time:g}: {path} is a picture; leave portrait_time out, or give a video"
            )
        return picture, []
    try:
        picture = next(iter(FrameReader(path, start=time or 0.0)))
    except NotMedia:
        raise no_picture from None
    if time is not None:
        return picture, []
    return picture, [f"portrait={path}: is a video; its first frame is used (portrait_time= chooses another one)"]


def _far_away(detector: LandmarkDetector, picture: np.ndarray) -> str:
    """Looks for faces in parts of a picture in which none was found; a detector misses small ones.

    Args:
        detector: Landmark detector; one that reads files finds nothing here.
        picture: (H, W, 3) uint8.

    Returns:
        What is wrong with the picture, if there is a face in a part of it; otherwise an empty text.
    """
    height, width = picture.shape[:2]
    for parts in ENLARGED:
        side = max(height, width) // parts
        if side < SMALLEST_PART:
            break
        for top in range(0, max(1, height - side // 2), max(1, side // 2)):
            for left in range(0, max(1, width - side // 2), max(1, side // 2)):
                tile = np.ascontiguousarray(picture[top : top + side, left : left + side])
                if min(tile.shape[:2]) < MIN_SIZE:
                    continue
                try:
                    faces = detector.detect(tile)
                except UserError:
                    return ""
                if faces:
                    x0, y0, x1, y1 = face_extents(faces[0].landmarks[None], detector.scheme)[0]
                    return (
                        f"the face is too small in the picture: {y1 - y0:.0f} of {height} pixels high, around "
                        f"({left + (x0 + x1) / 2:.0f}, {top + (y0 + y1) / 2:.0f}); cut the picture out around it, and "
                        "choose one in which the face is large"
                    )
    return ""


class PasteBack:
    """Pastes generated crops back into the portrait, blended over the crop's margin.

    Args:
        portrait: Portrait that the crop was taken from.

    Attributes:
        size: (width, height) of the result. Both are even, as H.264 requires: an odd last column or row is dropped.
    """

    def __init__(self, portrait: PreparedPortrait) -> None:
        height, width = (length // 2 * 2 for length in portrait.picture.shape[:2])
        self.size = (width, height)
        self._picture = portrait.picture[:height, :width]
        left, top, self._side = portrait.crop
        self._rows, self._columns = slice(top, top + self._side), slice(left, left + self._side)
        self._around = self._picture[self._rows, self._columns].astype(np.float32)
        # No blending where the crop ends at the image's border.
        rows = _ramp(self._side, top > 0, top + self._side < height)
        columns = _ramp(self._side, left > 0, left + self._side < width)
        weight = rows[:, None] * columns[None, :]
        self._weight = weight[: self._around.shape[0], : self._around.shape[1], None]

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Pastes a (S, S, 3) uint8 frame and returns the whole image, (height, width, 3) uint8."""
        face = np.asarray(Image.fromarray(frame).resize((self._side, self._side), Image.Resampling.LANCZOS))
        face = face[: self._around.shape[0], : self._around.shape[1]]
        blended = self._around + self._weight * (face - self._around)
        whole = self._picture.copy()
        whole[self._rows, self._columns] = blended.round().astype(np.uint8)
        return whole


def _ramp(side: int, at_start: bool, at_end: bool) -> np.ndarray:
    """Returns (side,) float32 weights: 1 inside, falling smoothly to 0 towards the ends that are blended."""
    place = (np.arange(side, dtype=np.float32) + 0.5) / (FEATHER * side)
    rising = np.clip(place, 0, 1)
    smooth = rising**2 * (3 - 2 * rising)
    return (smooth if at_start else 1) * (smooth[::-1] if at_end else np.ones(side, np.float32))
