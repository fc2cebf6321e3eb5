"""Prepares the part of the picture that a system sees, and cuts the same part from the real video.

FID and FVD compare pictures. If a system saw another part than the real video shows, they would measure its crop. Each
framing therefore cuts the portrait and the real frames in the same way. Shapes: H x W pixels, F frames.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.system import Portrait
from configs.preparation import FaceConfig
from encoders.landmarks.sidecar import LandmarkFileError
from encoders.motion.pdfgc import aligned_faces, alignment, warp_face
from encoders.protocols import FaceTrack, LandmarkDetector
from media import FrameReader, MediaError, read_picture
from preparation.clip_source import Rejected
from preparation.speaker_crop import crop_frames, follow_face, square_crop
from runtime.errors import UserError

HEAD_SCALE = FaceConfig().scale  # side of the head's square divided by the face's longer side, as prepare.py crops
SAME_SHAPE = 0.01  # relative difference of aspect ratios up to which two pictures show the same part
MIN_SIZE = 64  # pixels; the smallest portrait that is accepted
BATCH = 32


class FaceFinder:
    """Finds faces in portraits and videos. Calls are serialised, because detectors are not thread-safe.

    Args:
        detector: Landmark detector.
    """

    def __init__(self, detector: LandmarkDetector) -> None:
        self.detector = detector
        self.lock = threading.RLock()
        self._of_video = lru_cache(maxsize=4)(self._follow)

    def in_picture(self, picture: np.ndarray, path: Path) -> FaceTrack:
        """Returns the face of one (H, W, 3) picture as a track of one frame.

        Raises:
            UserError: If there is no face, or more than one.
        """
        return self._checked(path, [picture])

    def in_video(self, path: Path) -> FaceTrack:
        """Returns the speaker's face in every frame at 25 fps.

        Raises:
            UserError: If the face cannot be tracked, or the video cannot be read.
        """
        with self.lock:
            return self._of_video(path)

    def _follow(self, path: Path) -> FaceTrack:
        return self._checked(path, FrameReader(path))

    def _checked(self, path: Path, frames: FrameReader | list[np.ndarray]) -> FaceTrack:
        try:
            with self.lock:
                tracking = self.detector.track(frames, path)
            return follow_face(tracking, self.detector.scheme, FaceConfig(max_outside=1.0), MIN_SIZE)
        except (Rejected, LandmarkFileError, MediaError) as error:
            raise UserError(f"{path.name}: {error}") from error


def read_portrait(path: Path) -> np.ndarray:
    """Reads a portrait as (H, W, 3) uint8 RGB, upright; transparency becomes white.

    Raises:
        UserError: If it cannot be read, or is too small.
    """
    try:
        picture = read_picture(path)
    except MediaError as error:
        raise UserError(f"portrait {error}") from error
    if min(picture.shape[:2]) < MIN_SIZE:
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        raise UserError(f"portrait {path}: {size} pixels, expected at least {MIN_SIZE} x {MIN_SIZE}")
    return picture


def first_frame(track: FaceTrack) -> FaceTrack:
    """Returns the track of the first frame only."""
    return FaceTrack(track.landmarks[:1], track.scheme, track.detected[:1])


class Framing:
    """Framing of one case.

    Args:
        wanted: Portrait that the system expects.
        portrait: Portrait file of the case.
        faces: Face finder.

    Attributes:
        name: Name of the framing, for the record.
        box: (left, top, side) of the head's square in the portrait, or None.
        picture: (h, w, 3) uint8 portrait for the system.

    Raises:
        UserError: If the portrait cannot be read, or its face is not found.
    """

    def __init__(self, wanted: Portrait, portrait: Path, faces: FaceFinder) -> None:
        self.name = wanted.framing
        self.box: tuple[int, int, int] | None = None
        self._faces = faces
        source = read_portrait(portrait)
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
        """Yields the real video's frames at 25 fps, framed like the portrait.

        Args:
            video: Real video.
            size: (width, height) of the system's frames.

        Yields:
            (height, width, 3) uint8 frames.

        Raises:
            UserError: If the real video has another size or shape than the portrait.
            MediaError: If the video is damaged.
        """
        reader = FrameReader(video)
        if self.name == "pcavs":
            yield from self._aligned(reader, video, size)
            return
        shown = f"the real video {reader.size[0]} x {reader.size[1]}"
        if self.box and reader.size != self._source_size:
            raise UserError(
                f"the portrait is {self._source_size[0]} x {self._source_size[1]} pixels and {shown}: its "
                "framing cannot be applied to the video; use a frame of the video as the portrait"
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
            if len(block) == BATCH or index == len(reader) - 1:
                faces = aligned_faces(np.stack(block), matrices[index + 1 - len(block) : index + 1])
                for face in ((faces + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy():
                    yield resized(face, size)
                block = []


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a picture to (width, height) with antialiasing; returns it unchanged if it has that size."""
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))
