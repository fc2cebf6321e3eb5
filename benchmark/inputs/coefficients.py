"""3DMM files as StyleTalk and DreamTalk read them: Deep3DFaceRecon coefficients of every frame, in a .mat.

``coeff`` (L, 257) holds identity 80, expression 64, texture 80, angle 3, lighting 27, translation 3;
``transform_params`` (L, 5) the picture's width and height, the scale to the aligned 224 x 224 crop, and the face's
origin x, y in the picture, y upwards. Both are what PIRender's extraction writes. Shapes: L rows, F frames at 25 fps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat, savemat

from encoders.landmarks.schemes import as_ibug68
from encoders.protocols import FPS, FaceTrack
from media import FrameReader
from metrics.functional.efid import AlignedFace, align_face
from metrics.networks.deep3d import Deep3DFace
from preparation.speaker_crop import crop_frames
from runtime.errors import UserError
from runtime.files import whole_file

COEFFICIENTS = 257
ANGLE, TRANSLATION = slice(224, 227), slice(254, 257)
MAX_ANGLE = np.pi  # radians; a head does not turn further
BATCH = 16
RATES = (25.0, 30.0)  # rows per second the two systems' authors use
RATE_SLACK = 0.06  # share of the rows that may be missing


@dataclass(frozen=True)
class Coefficients:
    """A clip's 3DMM track.

    Attributes:
        coeff: (L, 257) float32.
        transform: (L, 5) float32.
        rate: rows per second.
    """

    coeff: np.ndarray
    transform: np.ndarray
    rate: float

    def __len__(self) -> int:
        return len(self.coeff)

    def resampled(self, rate: float) -> Coefficients:
        """The same track at another rate, linear in time, held at the end."""
        if rate == self.rate:
            return self
        count = max(1, round(len(self) / self.rate * rate))
        places = np.arange(count) * self.rate / rate
        known = np.arange(len(self))
        tracks = [
            np.stack([np.interp(places, known, column) for column in part.T], axis=1).astype(np.float32)
            for part in (self.coeff, self.transform)
        ]
        return Coefficients(tracks[0], tracks[1], rate)

    def extended(self, rows: int) -> Coefficients:
        """At least ``rows`` long, the last row repeated: StyleTalk and DreamTalk stop at a pose shorter than speech."""
        lacking = max(0, rows - len(self))
        pad = ((0, lacking), (0, 0))
        return Coefficients(np.pad(self.coeff, pad, "edge"), np.pad(self.transform, pad, "edge"), self.rate)


def extract(network: Deep3DFace, video: Path, track: FaceTrack, box: tuple[int, int, int], size: int) -> Coefficients:
    """The 3DMM track of a video at 25 fps, of its frames cropped to the head as both systems' authors do.

    Args:
        network: Deep3DFaceRecon's.
        video: the file.
        track: the face in its frames at 25 fps.
        box: left, top and side of the head's square, pixels.
        size: side of the crop in pixels, that of the portrait the system renders.

    Raises:
        ValueError: if a face cannot be aligned.
        MediaError: if the video is damaged.
    """
    faces = aligned(crop_frames(FrameReader(video), box, size), track.cropped(box[0], box[1], size / box[2]))
    rows, transforms = [], []
    for batch in iter(lambda: list(islice(faces, BATCH)), []):
        pictures = torch.from_numpy(np.stack([face.image for face in batch])).permute(0, 3, 1, 2)
        with torch.inference_mode():
            rows.append(network.coefficients(pictures).cpu().numpy())
        transforms += [face.transform for face in batch]
    return Coefficients(np.concatenate(rows), np.asarray(transforms, np.float32), float(FPS))


def aligned(frames: Iterable[np.ndarray], track: FaceTrack) -> Iterator[AlignedFace]:
    """The face of every (H, W, 3) frame, cropped as Deep3DFaceRecon expects it.

    Raises:
        ValueError: if a face cannot be aligned.
    """
    points = as_ibug68(track.landmarks, track.scheme)
    return (align_face(frame, face) for frame, face in zip(frames, points, strict=True))


def write_mat(path: Path, track: Coefficients) -> None:
    """Writes a .mat; it appears under its name when it is whole."""
    with whole_file(path) as partial:
        savemat(partial, {"coeff": track.coeff, "transform_params": track.transform}, appendmat=False)


def read_mat(path: Path, seconds: float) -> Coefficients:
    """Reads and checks a .mat; how many rows it has per second follows from the length of its video.

    Args:
        path: the file.
        seconds: how long the video it was made of lasts.

    Raises:
        UserError: if it is no such file, its values cannot be a face's, or its rate is neither 25 nor 30.
    """
    try:
        content = loadmat(path)
    except (OSError, ValueError, NotImplementedError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a MATLAB 5 file ({error})") from error
    parts = []
    for name, width in (("coeff", COEFFICIENTS), ("transform_params", 5)):
        if name not in content:
            found = ", ".join(sorted(key for key in content if not key.startswith("__"))) or "nothing"
            raise UserError(f"{path}: holds no {name} (found {found}); expected coeff and transform_params")
        values = np.asarray(content[name])
        if values.ndim != 2 or values.shape[1] != width or values.dtype.kind != "f" or not len(values):
            raise UserError(f"{path}: {name} is {values.dtype} {values.shape}, expected floats (L, {width})")
        if not np.isfinite(values).all():
            raise UserError(f"{path}: {name} holds values that are not numbers")
        parts.append(values.astype(np.float32))
    track = Coefficients(parts[0], parts[1], _rate_of(path, len(parts[0]), seconds))
    _check_values(path, track)
    return track


def _rate_of(path: Path, rows: int, seconds: float) -> float:
    found = rows / seconds
    nearest = min(RATES, key=lambda rate: abs(found - rate))
    # A row or two are often missing at the end, which weighs more in a short clip.
    if abs(rows - nearest * seconds) > max(RATE_SLACK * rows, 3) or abs(found - nearest) > 2.4:
        raise UserError(
            f"{path}: {rows} rows for a video of {seconds:.2f} s are {found:.1f} per second, expected 25 (DreamTalk) "
            "or 30 (StyleTalk): it is another video's"
        )
    return nearest


def _check_values(path: Path, track: Coefficients) -> None:
    if len(track.coeff) != len(track.transform):
        raise UserError(f"{path}: {len(track.coeff)} rows of coeff and {len(track.transform)} of transform_params")
    if (angle := float(np.abs(track.coeff[:, ANGLE]).max())) > MAX_ANGLE:
        raise UserError(
            f"{path}: columns 224 to 226 should be head angles in radians, found {angle:.1f}: the order is identity "
            "80, expression 64, texture 80, angle 3, lighting 27, translation 3"
        )
    size, scale = track.transform[:, :2], track.transform[:, 2]
    if (size < 1).any() or (scale <= 0).any():
        raise UserError(f"{path}: transform_params should be width, height, scale, x, y; found {track.transform[0]}")
