"""Expression latents of a picture or of every frame of a video, computed as in preparation.

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
from runtime.stopping import checked

MAX_SECONDS = 60.0  # the motion encoder takes all crops of a clip at once, so memory grows with the length


class ExpressionReader:
    """Computes expression latents from pictures and videos, for e_ref and for emotion sources.

    Args:
        detector: Landmark detector; a sidecar detector reads ``X.csv`` next to ``X.png`` or ``X.mp4``.
        motion: Motion encoder that the shards were made with.
        frame_size: Side of the crop in the shards, pixels.
        face: Limits on the face that preparation used; the defaults where None.
    """

    def __init__(
        self, detector: LandmarkDetector, motion: MotionEncoder, frame_size: int, face: FaceConfig | None = None
    ) -> None:
        self.detector = detector
        self.motion = motion
        self.frame_size = frame_size
        # Preparation rejects clips with several faces. Here the largest face is used and a note reports it.
        self.face = replace(face or FaceConfig(), max_several=1.0)

    def image(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """Computes the expression latent of a picture.

        Args:
            path: Picture file (PNG, JPEG, WebP, ...); its EXIF orientation is applied.

        Returns:
            (d_e,) float32 latent, not standardised, and notes (several faces).

        Raises:
            UserError: If the file is no picture, or shows no face, or one that is too small or cut off.
        """
        path = Path(path)
        expression, notes = self._measure([read_picture(path)], path)
        return expression[0], notes

    def video(self, path: str | Path) -> tuple[Tensor, tuple[str, ...]]:
        """Computes the expression latent of every frame of a video.

        Args:
            path: Video file of at most 60 s.

        Returns:
            (F, d_e) float32 latents at 25 fps, not standardised, and notes (several faces, frames without a face).

        Raises:
            UserError: If the face is missing, too small, lost for too long or outside the picture, or if the video
                is longer than 60 s.
            MediaError: If the video cannot be read.
        """
        path = Path(path)
        frames = FrameReader(path, fps=FPS)
        if len(frames) > MAX_SECONDS * FPS:
            raise UserError(
                f"{path}: lasts {len(frames) / FPS:.0f} s, expected at most {MAX_SECONDS:g} s; cut out a part of it"
            )
        return self._measure(frames, path)

    def _measure(self, frames: Iterable[np.ndarray], path: Path) -> tuple[Tensor, tuple[str, ...]]:
        """Reads the frames twice, so that they are never all in memory at full size."""
        try:
            track, (left, top, side), several = locate_face(
                self.detector, checked(frames), path, self.face, self.frame_size
            )
        except Rejected as rejected:
            raise UserError(f"{path}: {rejected.detail}") from rejected
        crops = np.stack(list(crop_frames(checked(frames), (left, top, side), self.frame_size)))
        _, expression = self.motion(crops, track.cropped(left, top, self.frame_size / side))
        if not expression.isfinite().all():
            raise UserError(f"{path}: the expression latent has NaN or infinite values; check that the face is visible")
        return expression, _notes(path, track, several)


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture, applies its EXIF orientation and puts transparent parts on white.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UserError: If the file is missing or is not a picture.
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
        raise UserError(f"{path}: has more than {limit:.0f} megapixels; make it smaller") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}); fetch or copy it again") from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _notes(path: Path, track: FaceTrack, several: float) -> tuple[str, ...]:
    notes = []
    if several > 0:
        notes.append(f"{path}: shows several faces; the largest was used")
    if missing := int((~track.detected).sum()):
        notes.append(f"{path}: no face in {missing} of {len(track)} frames; their expression is interpolated")
    return tuple(notes)
