"""The expression latent of a single picture, or of every frame of a video, made exactly as shards are made.

    read -> landmarks -> crop -> motion encoder

Shapes: F frames at 25 fps, H x W pixels, d_e expression width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from configs.preparation import FaceConfig
from encoders.protocols import FPS, FaceTrack, LandmarkDetector, MotionEncoder
from media import FrameReader
from preparation.clip_source import Rejected
from preparation.speaker_crop import crop_frames, locate_face
from runtime.errors import UserError

MAX_SECONDS = 60.0  # a motion encoder sees the crops of a whole clip at once


class ExpressionReader:
    """Measures expressions of any person, for e_ref and for emotion sources.

    Args:
        detector: finds the face; a sidecar detector reads ``X.csv`` beside ``X.png`` or ``X.mp4``.
        motion: the motion encoder the shards were made with.
        frame_size: side of the crop in the shards, pixels.
        face: the limits preparation used.
    """

    def __init__(
        self, detector: LandmarkDetector, motion: MotionEncoder, frame_size: int, face: FaceConfig | None = None
    ) -> None:
        self.detector = detector
        self.motion = motion
        self.frame_size = frame_size
        # Of several people the largest is taken and the person told, where preparation would drop the clip.
        self.face = replace(face or FaceConfig(), max_several=1.0)

    def image(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """The expression in a picture.

        Args:
            path: PNG, JPEG, WebP, ...; turned upright as its EXIF orientation says.

        Returns:
            (d_e,) float32, not standardised, and notes (several faces).

        Raises:
            UserError: for a file that is no picture, no face, a face that is too small or cut off.
        """
        path = Path(path)
        expression, notes = self._measure([read_picture(path)], path)
        return expression[0], notes

    def video(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """The expression in every frame of a video.

        Returns:
            (F, d_e) float32 at 25 fps, not standardised, and notes (several faces, frames without one).

        Raises:
            UserError: for no face, one that is too small, is lost, or leaves the picture; for more than a minute.
            MediaError: when the video cannot be read.
        """
        path = Path(path)
        frames = FrameReader(path, fps=FPS)
        if len(frames) > MAX_SECONDS * FPS:
            raise UserError(
                f"{path}: lasts {len(frames) / FPS:.0f} s, at most {MAX_SECONDS:g} s can be taken over; cut out a part"
            )
        return self._measure(frames, path)

    def _measure(self, frames: Iterable[np.ndarray], path: Path) -> tuple[Tensor, tuple[str, ...]]:
        """Goes through the frames twice, so that they never stand in memory at their full size."""
        try:
            track, (left, top, side), several = locate_face(self.detector, frames, path, self.face, self.frame_size)
        except Rejected as rejected:
            raise UserError(f"{path}: {rejected.detail}") from rejected
        crops = np.stack(list(crop_frames(frames, (left, top, side), self.frame_size)))
        _, expression = self.motion(crops, track.cropped(left, top, self.frame_size / side))
        if not expression.isfinite().all():
            raise UserError(f"{path}: its expression latent holds NaN or infinite values; is the face visible?")
        return expression, _notes(path, track, several)


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a picture, upright; what is transparent in it lies on white.

    Raises:
        UserError: when the file is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(_in_rgb(ImageOps.exif_transpose(image)))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; name a picture in it") from None
    except UnidentifiedImageError:
        raise UserError(f"{path}: is not a picture; expected PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        limit = 2e-6 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UserError(f"{path}: is too large, over {limit:.0f} megapixels; make it smaller") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}); fetch or copy it again") from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _notes(path: Path, track: FaceTrack, several: float) -> tuple[str, ...]:
    notes = []
    if several > 0:
        notes.append(f"{path}: shows several faces; the largest was taken")
    if missing := int((~track.detected).sum()):
        notes.append(f"{path}: no face in {missing} of {len(track)} frames; their expression is interpolated")
    return tuple(notes)
