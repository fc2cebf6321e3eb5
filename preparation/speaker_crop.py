"""Face track of a clip: quality checks, filled gaps, and one fixed square crop.

Boxes are x0, y0, x1, y1 in pixels of the source picture, with pixel centres at half-integers.
Shapes: F frames, P landmarks, H x W source picture, S the crop's side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from configs.preparation import FaceConfig
from encoders.landmarks.boxes import face_extents
from encoders.landmarks.sidecar import LandmarkFileError
from encoders.protocols import Face, FaceTrack, LandmarkDetector, LandmarkScheme, Tracking
from preparation.clip_source import Reason, Rejected

# Number of frames in which the face may lie outside the picture, since single detections can be wrong (motion blur).
TOLERATED = 3


def find_face(detector: LandmarkDetector, frames: Iterable[np.ndarray], video: Path, start: float = 0.0) -> Tracking:
    """Runs a landmark detector over a clip.

    Args:
        detector: Landmark detector.
        frames: (H, W, 3) uint8 RGB frames at 25 fps, read once.
        video: File that the frames come from.
        start: Time of the first frame in the file, seconds.

    Returns:
        The detected faces and the share of frames with several faces.

    Raises:
        Rejected: NO_LANDMARKS if the landmark file next to the video is missing, damaged or of another video.
    """
    try:
        return detector.track(frames, video, start)
    except LandmarkFileError as error:
        raise Rejected(Reason.NO_LANDMARKS, str(error)) from error


def follow_face(tracking: Tracking, scheme: LandmarkScheme, config: FaceConfig, frame_size: int) -> FaceTrack:
    """Checks the detections of a clip and fills the gaps.

    Gaps are interpolated linearly in time. Frames before the first and after the last detection repeat it.

    Args:
        tracking: Detected face of each frame.
        scheme: Landmark scheme of the detector.
        config: Limits on the face.
        frame_size: Side of the crop, pixels; a quarter of it is the smallest face where ``config.min_size`` is None.

    Returns:
        The face in every frame.

    Raises:
        Rejected: NO_FACE, SEVERAL_FACES, FACE_LOST, FACE_LEAVES_FRAME or FACE_TOO_SMALL, with the measured values.
    """
    detected = np.array([face is not None for face in tracking.faces], bool)
    count = len(detected)
    if not detected.any():
        advice = "; choose a picture of one from the front, well lit and not cut off"
        raise Rejected(Reason.NO_FACE, "no face was found" + (f" in any of {count} frames" if count > 1 else advice))
    if tracking.several > config.max_several:
        raise Rejected(
            Reason.SEVERAL_FACES,
            f"{tracking.several:.0%} of the checked frames show a second face of comparable size; "
            f"face.max_several is {config.max_several:.0%}",
        )
    missing, gap = count - int(detected.sum()), longest_run(~detected)
    if missing > config.max_missing * count or gap > config.max_gap:
        raise Rejected(
            Reason.FACE_LOST,
            f"no face in {missing} of {count} frames, {gap} of them in a row; face.max_missing is "
            f"{config.max_missing:.0%}, face.max_gap {config.max_gap}",
        )
    track = _without_gaps(tracking.faces, scheme, detected)
    extents = face_extents(track.landmarks, scheme)
    _require_inside(extents, tracking.size, config.max_outside)
    _require_size(extents, config.min_size if config.min_size is not None else frame_size // 4)
    return track


def locate_face(
    detector: LandmarkDetector,
    frames: Iterable[np.ndarray],
    path: Path,
    config: FaceConfig,
    frame_size: int,
    start: float = 0.0,
) -> tuple[FaceTrack, tuple[int, int, int], float]:
    """Tracks the face of a picture or video and chooses the crop that preparation would store.

    Args:
        detector: Landmark detector.
        frames: (H, W, 3) uint8 RGB frames at 25 fps, read once; a single one for a picture.
        path: File that the frames come from.
        config: Limits on the face.
        frame_size: Side of the resized crop, pixels.
        start: Time of the first frame in the file, seconds.

    Returns:
        The track in pixels of the picture; left, top and side of the crop; and the share of frames with several faces.

    Raises:
        Rejected: For the reasons of ``find_face``, ``follow_face`` and ``square_crop``.
    """
    tracking = find_face(detector, frames, path, start)
    track = follow_face(tracking, detector.scheme, config, frame_size)
    return track, square_crop(track, tracking.size, config.scale), tracking.several


def longest_run(flags: np.ndarray) -> int:
    """Returns the length of the longest run of True in (F,) bool."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _without_gaps(faces: list[Face | None], scheme: LandmarkScheme, detected: np.ndarray) -> FaceTrack:
    seen = [face for face in faces if face is not None]
    times = np.flatnonzero(detected)
    shapes = [face.blendshapes for face in seen if face.blendshapes is not None]
    return FaceTrack(
        landmarks=_interpolated(np.stack([face.landmarks for face in seen]), times, len(faces)),
        scheme=scheme,
        detected=detected,
        blendshapes=_interpolated(np.stack(shapes), times, len(faces)) if len(shapes) == len(seen) else None,
    )


def _interpolated(values: np.ndarray, times: np.ndarray, count: int) -> np.ndarray:
    """(N, ...) values at N ascending frames -> (count, ...) float32 at every frame; given values are kept exactly."""
    frames = np.arange(count)
    after = np.searchsorted(times, frames).clip(0, len(times) - 1)
    before = np.where(times[after] > frames, after - 1, after).clip(0)
    span = times[after] - times[before]
    weight = np.where(span > 0, (frames - times[before]) / np.maximum(span, 1), 0.0)
    weight = weight.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
    return ((1 - weight) * values[before] + weight * values[after]).astype(np.float32)


def _require_inside(extents: np.ndarray, size: tuple[int, int], max_outside: float) -> None:
    picture = np.array([*size, *size], np.float64)
    inside = np.clip(extents, 0, picture)
    area = (extents[:, 2:] - extents[:, :2]).prod(1)
    outside = 1 - (inside[:, 2:] - inside[:, :2]).prod(1) / np.maximum(area, 1e-9)
    beyond = outside > max_outside
    if beyond.sum() > min(TOLERATED, len(beyond) - 1):  # for a picture (one frame) nothing is tolerated
        raise Rejected(
            Reason.FACE_LEAVES_FRAME,
            f"in {int(beyond.sum())} of {len(beyond)} frames more than {max_outside:.0%} of the face lies outside the "
            f"{size[0]}x{size[1]} picture, at most {outside.max():.0%}; face.max_outside is {max_outside:.0%}",
        )


def _require_size(extents: np.ndarray, min_size: int) -> None:
    size = float(np.median((extents[:, 2:] - extents[:, :2]).max(1)))
    if size < min_size:
        raise Rejected(
            Reason.FACE_TOO_SMALL,
            f"the face is {size:.0f} pixels high, expected at least {min_size} (face.min_size, or a quarter of "
            "frame_size)",
        )


def square_crop(track: FaceTrack, size: tuple[int, int], scale: float) -> tuple[int, int, int]:
    """Chooses one square crop for the whole clip.

    Its side is ``scale`` times the longer side of the union of all face boxes (chin to hairline), limited by the
    picture. The square lies inside the picture and contains the visible part of every face box.

    Args:
        track: Face track in pixels of the picture.
        size: (W, H) of the picture.
        scale: Ratio of the crop's side to the longer side of the union.

    Returns:
        Left, top and an even side, whole pixels.

    Raises:
        Rejected: FACE_LEAVES_FRAME if no square in the picture contains the union.
    """
    extents = face_extents(track.landmarks, track.scheme)
    picture = np.array(size)
    low = np.floor(np.clip(extents[:, :2].min(0), 0, picture)).astype(int)
    high = np.ceil(np.clip(extents[:, 2:].max(0), 0, picture)).astype(int)
    longest = int((high - low).max())
    limit = int(min(size)) // 2 * 2
    side = min(2 * round(scale * longest / 2), limit)
    if side < longest:
        raise Rejected(
            Reason.FACE_LEAVES_FRAME,
            f"the face moves over {high[0] - low[0]}x{high[1] - low[1]} pixels; no {side}x{side} square of the "
            f"{size[0]}x{size[1]} picture contains that",
        )
    wanted = np.round((low + high - side) / 2).astype(int)
    left, top = np.clip(wanted, np.maximum(high - side, 0), np.minimum(low, picture - side))
    return int(left), int(top), side


def crop_frames(frames: Iterable[np.ndarray], box: tuple[float, float, float], frame_size: int) -> Iterator[np.ndarray]:
    """Crops one square from every frame and resizes it with antialiasing.

    ``track.cropped(left, top, frame_size / side)`` maps landmarks in the same way.

    Args:
        frames: (H, W, 3) uint8 frames.
        box: Left, top and side in pixels, inside the picture.
        frame_size: Side of the result, pixels.

    Yields:
        (frame_size, frame_size, 3) uint8.
    """
    left, top, side = box
    # Only the crop is converted: converting a whole 1080 x 1920 frame to an image takes longer than the resize.
    x, y = math.floor(left), math.floor(top)
    columns, rows = slice(x, math.ceil(left + side)), slice(y, math.ceil(top + side))
    for frame in frames:
        image = Image.fromarray(np.ascontiguousarray(frame[rows, columns]))
        resized = image.resize(
            (frame_size, frame_size),
            Image.Resampling.LANCZOS,
            box=(left - x, top - y, left - x + side, top - y + side),
            reducing_gap=3.0,  # reduces by an integer factor first where the crop is much larger: faster, looks equal
        )
        yield np.asarray(resized)


def choose_portraits(track: FaceTrack, count: int = 4) -> list[int]:
    """Chooses the frames of the reference portraits: the first, and others spread evenly over the clip.

    Frames with a detected face are preferred to interpolated ones. A clip with fewer frames than ``count`` repeats
    some.

    Args:
        track: Face track of the clip.
        count: Number of portraits.

    Returns:
        ``count`` ascending frame indices.
    """
    chosen: list[int] = []
    for target in np.linspace(0, len(track) - 1, count):
        free = [index for index in range(len(track)) if index not in chosen] or list(range(len(track)))
        chosen.append(min(free, key=lambda index: (not track.detected[index], abs(index - target), index)))
    return sorted(chosen)
