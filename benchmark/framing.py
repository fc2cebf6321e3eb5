"""Which part of the picture a system sees, and the same part of the real video.

FID and FVD compare pictures, so a system that looks at another part than the real video shows is measured for its crop.
Each framing therefore prepares the portrait and gives the real frames in the same way. Shapes: H x W pixels, F frames.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from benchmark.system import Portrait
from configs.preparation import FaceConfig
from encoders.landmarks.sidecar import LandmarkFileError
from encoders.motion.pdfgc import aligned_faces, alignment, warp_face
from encoders.protocols import FaceTrack, LandmarkDetector
from media import FrameReader, MediaError
from preparation.clip_source import Rejected
from preparation.speaker_crop import crop_frames, follow_face, square_crop
from runtime.errors import UserError

HEAD_SCALE = FaceConfig().scale  # side of the head's square over the face's longer side, as prepare.py crops
SAME_SHAPE = 0.01  # share by which the shapes of two pictures of the same part may differ
SMALLEST = 64  # pixels; a smaller portrait holds no face worth animating
FRAMES_A_TIME = 32


class FaceFinder:
    """Where the face is, in portraits and videos; one at a time, since detectors are not made for threads.

    Args:
        detector: finds the landmarks.
    """

    def __init__(self, detector: LandmarkDetector) -> None:
        self.detector = detector
        self.lock = threading.RLock()
        self._of_video = lru_cache(maxsize=4)(self._follow)

    def in_picture(self, picture: np.ndarray, path: Path) -> FaceTrack:
        """The face of one (H, W, 3) picture, as a track of one frame.

        Raises:
            UserError: if there is none, or more than one.
        """
        return self._checked(path, [picture])

    def in_video(self, path: Path) -> FaceTrack:
        """The speaker's face in every frame at 25 fps.

        Raises:
            UserError: if it cannot be followed, or the video not read.
        """
        with self.lock:
            return self._of_video(path)

    def _follow(self, path: Path) -> FaceTrack:
        return self._checked(path, FrameReader(path))

    def _checked(self, path: Path, frames: FrameReader | list[np.ndarray]) -> FaceTrack:
        try:
            with self.lock:
                tracking = self.detector.track(frames, path)
            return follow_face(tracking, self.detector.scheme, FaceConfig(max_outside=1.0), SMALLEST)
        except (Rejected, LandmarkFileError, MediaError) as error:
            raise UserError(f"{path.name}: {error}") from error


def read_picture(path: Path) -> np.ndarray:
    """A portrait as (H, W, 3) uint8 RGB, upright, on white where it is transparent.

    Raises:
        UserError: if it cannot be read, or is too small.
    """
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image)
            if "A" in turned.getbands() or "transparency" in turned.info:
                turned = turned.convert("RGBA")
                turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
            picture = np.asarray(turned.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"portrait {path}: cannot be read ({error})") from error
    if min(picture.shape[:2]) < SMALLEST:
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise UserError(f"portrait {path}: {size} pixels, expected at least {SMALLEST} x {SMALLEST}")
    return picture


def first_frame(track: FaceTrack) -> FaceTrack:
    """The track of the first frame alone."""
    return FaceTrack(track.landmarks[:1], track.scheme, track.detected[:1])


class Framing:
    """One case's framing.

    Args:
        wanted: what the system asks for.
        portrait: the case's picture file.
        faces: finds the face.

    Attributes:
        name: for the record.
        box: left, top and side of the head's square in the portrait, or None.
        picture: (h, w, 3) uint8, what the system gets.

    Raises:
        UserError: if the portrait cannot be read, or its face not found.
    """

    def __init__(self, wanted: Portrait, portrait: Path, faces: FaceFinder) -> None:
        self.name = wanted.framing
        self.box: tuple[int, int, int] | None = None
        self._faces = faces
        source = read_picture(portrait)
        self._source_size = source.shape[1], source.shape[0]
        if wanted.framing == "pcavs":
            self.picture = warp_face(source, alignment(faces.in_picture(source, portrait))[0])
            return
        self.picture = source
        if wanted.framing == "head":
            try:
                self.box = square_crop(faces.in_picture(source, portrait), self._source_size, HEAD_SCALE)
            except Rejected as error:
                raise UserError(f"portrait {portrait}: {error}") from error
            if not wanted.crops_itself:
                self.picture = next(crop_frames([source], self.box, wanted.size or self.box[2]))
        elif wanted.size:
            self.picture = np.asarray(
                Image.fromarray(source).resize((wanted.size, wanted.size), Image.Resampling.LANCZOS)
            )

    def real_frames(self, video: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
        """The real video's frames at 25 fps, framed like the portrait.

        Args:
            video: the real video.
            size: (width, height) of the system's frames.

        Yields:
            (height, width, 3) uint8.

        Raises:
            UserError: if the framing cannot be carried over.
            MediaError: if the video is damaged.
        """
        reader = FrameReader(video)
        if self.name == "pcavs":
            yield from self._aligned(reader, video, size)
            return
        shown = f"the real video {reader.size[0]} x {reader.size[1]}"
        if self.box and reader.size != self._source_size:
            raise UserError(
                f"the portrait is {self._source_size[0]} x {self._source_size[1]} pixels and {shown}: its "
                "framing cannot be carried over; use a frame of the video"
            )
        if not self.box and abs(reader.size[0] * size[1] / (reader.size[1] * size[0]) - 1) > SAME_SHAPE:
            raise UserError(f"the video is {size[0]} x {size[1]} pixels and {shown}: they show different parts")
        left, top, side = self.box or (0, 0, 0)
        for frame in reader:
            part = frame[top : top + side, left : left + side] if self.box else frame
            yield resized(part, size)

    def _aligned(self, reader: FrameReader, video: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
        matrices = alignment(self._faces.in_video(video))
        block: list[np.ndarray] = []
        for index, frame in enumerate(reader):
            block.append(frame)
            if len(block) == FRAMES_A_TIME or index == len(reader) - 1:
                faces = aligned_faces(np.stack(block), matrices[index + 1 - len(block) : index + 1])
                for face in ((faces + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy():
                    yield resized(face, size)
                block = []


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The whole picture at another (width, height), antialiased; itself where it has it."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
