"""Expression latents of a picture or of every frame of a video, computed as in preparation.

    read -> landmarks -> crop -> motion encoder

Shapes: F frames at 25 fps, H x W pixels, d_e expression width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from configs.preparation import FaceConfig
from encoders.protocols import FPS, FaceTrack, LandmarkDetector, MotionEncoder
from media import FrameReader, read_picture
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


def _notes(path: Path, track: FaceTrack, several: float) -> tuple[str, ...]:
    notes = []
    if several > 0:
        notes.append(f"{path}: shows several faces; the largest was used")
    if missing := int((~track.detected).sum()):
        notes.append(f"{path}: no face in {missing} of {len(track)} frames; their expression is interpolated")
    return tuple(notes)
