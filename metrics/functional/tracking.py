"""Shots, face tracks and crops of a video, as in syncnet_python's run_pipeline.py.

Boxes are (left, top, right, bottom) in pixels. Shapes: F frames, K detections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

MIN_IOU = 0.5
MAX_GAP = 25
MIN_FACE = 100.0
CROP_SCALE = 0.4
CROP_SIZE = 224
PAD_VALUE = 110
SCENE_THRESHOLD = 30.0
MIN_SCENE = 15
# PySceneDetect 0.5: (minimum width, n); only every n-th pixel is used from this width on.
_STRIDES = ((3200, 12), (2100, 8), (1700, 6), (1200, 5), (900, 4), (600, 3), (400, 2))


@dataclass(frozen=True)
class Track:
    """Track of one face in one shot.

    Attributes:
        frames: (F,) consecutive frame indices.
        boxes: (F, 4) boxes, interpolated where the face was not detected.
        detections: Number of frames with a detection.
    """

    frames: np.ndarray
    boxes: np.ndarray
    detections: int


def box_iou(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the intersection over union of two boxes."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
    inter = float(np.prod(np.maximum(0.0, high - low)))
    areas = float(np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]))
    return inter / (areas - inter) if areas > inter else 0.0


def track_faces(
    detections: Sequence[np.ndarray], min_track: int = 50, min_face: float = MIN_FACE, first: int = 0
) -> list[Track]:
    """Tracks the faces of one shot greedily.

    A track starts with the first remaining face, takes faces with an IoU above 0.5 to its last box, and continues over
    up to 24 frames without detection. As in the original, the face after a taken one in the same frame's list is
    skipped.

    Args:
        detections: (K, >= 4) boxes of each frame.
        min_track: Minimum number of detections of a track (exclusive); syncnet_python's 100 rejects most MEAD clips.
        min_face: Minimum mean width or height (exclusive), pixels.
        first: Index of the first frame.
    """
    left = [[np.asarray(face, dtype=np.float64)[:4] for face in frame] for frame in detections]
    tracks: list[Track] = []
    while any(left):
        taken: list[tuple[int, np.ndarray]] = []
        for index, faces in enumerate(left):
            if taken and index - taken[-1][0] > MAX_GAP:
                break
            place = 0
            while place < len(faces):
                if not taken or box_iou(faces[place], taken[-1][1]) > MIN_IOU:
                    taken.append((index, faces.pop(place)))
                place += 1
        if len(taken) > min_track:
            frames = np.array([frame for frame, _ in taken])
            boxes = np.stack([box for _, box in taken])
            every = np.arange(frames[0], frames[-1] + 1)
            smooth = np.stack([np.interp(every, frames, boxes[:, i]) for i in range(4)], axis=1)
            if (smooth[:, 2:] - smooth[:, :2]).mean(axis=0).max() > min_face:
                tracks.append(Track(every + first, smooth, len(taken)))
    return tracks


@dataclass(frozen=True)
class CropPath:
    """Position of a track's crop in each frame, median-filtered over 13 frames.

    Attributes:
        x: (F,) centre, pixels.
        y: (F,) centre, pixels.
        half: (F,) half of the longer side of the box, pixels.
    """

    x: np.ndarray
    y: np.ndarray
    half: np.ndarray


def crop_path(boxes: np.ndarray) -> CropPath:
    """Computes the smoothed crop position of (F, 4) boxes; the filter is zero-padded, like scipy's medfilt."""
    from scipy.signal import medfilt  # late: it imports scipy.stats

    low, high = boxes[:, :2], boxes[:, 2:4]
    centre = (low + high) / 2
    series = (centre[:, 0], centre[:, 1], (high - low).max(axis=1) / 2)
    padded = (medfilt(np.pad(values, 13), kernel_size=13)[13:-13] for values in series)
    return CropPath(*padded)


def crop_face(frame: np.ndarray, x: float, y: float, half: float) -> np.ndarray:
    """Crops the face and the region below it, without resizing.

    Rows y - h ... y + 1.8 h and columns x - 1.4 h ... x + 1.4 h, with the value 110 outside the frame. As in the
    original, the limits are truncated to integers after the shift by the padding.

    Args:
        frame: (H, W, 3) uint8.
        x: Centre, pixels.
        y: Centre, pixels.
        half: Half side h of the box, pixels.

    Raises:
        ValueError: If the crop is empty.
    """
    pad = int(half * (1 + 2 * CROP_SCALE))
    rows = int(y + pad - half), int(y + pad + half * (1 + 2 * CROP_SCALE))
    columns = int(x + pad - half * (1 + CROP_SCALE)), int(x + pad + half * (1 + CROP_SCALE))
    padded = np.pad(frame, ((pad, pad), (pad, pad), (0, 0)), constant_values=PAD_VALUE)
    crop = padded[rows[0] : rows[1], columns[0] : columns[1]]
    if crop.size == 0:
        raise ValueError(
            f"Sync: the crop at ({x:.0f}, {y:.0f}) with half side {half:.0f} lies outside the {frame.shape} frame"
        )
    return crop


def find_shots(
    frames: Iterable[np.ndarray], hsv: Callable[[np.ndarray], np.ndarray] | None = None
) -> list[tuple[int, int]]:
    """Finds the shots of a video like PySceneDetect 0.5.1's ContentDetector with default settings.

    A cut is where hue, saturation and value change by 30 or more on average between two frames, at least 15 frames
    after the last cut. The first cut may be anywhere.

    Args:
        frames: (H, W, 3) uint8 frames, read one at a time; RGB, or what ``hsv`` converts.
        hsv: Function from a frame to HSV in OpenCV's scale; None for an own conversion of RGB, within 1 of OpenCV's.

    Returns:
        (first frame, end) of each shot.
    """
    convert = hsv or _hsv
    previous: np.ndarray | None = None
    cuts: list[int] = []
    count = 0
    for frame in frames:
        stride = next((n for width, n in _STRIDES if frame.shape[1] >= width), 1)
        current = convert(frame[::stride, ::stride]).astype(np.int32)
        if previous is not None and (not cuts or count - cuts[-1] >= MIN_SCENE):
            change = np.abs(current - previous).reshape(-1, 3).mean(axis=0).mean()
            if change >= SCENE_THRESHOLD:
                cuts.append(count)
        previous = current
        count += 1
    return list(zip([0, *cuts], [*cuts, count], strict=True)) if count else []


def _hsv(frame: np.ndarray) -> np.ndarray:
    """Converts (h, w, 3) uint8 RGB to int32 HSV in OpenCV's scale: hue in [0, 180), others in [0, 255]."""
    rgb = frame.astype(np.float32)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    value = rgb.max(axis=-1)
    spread = value - rgb.min(axis=-1)
    safe = np.maximum(spread, 1)
    hue = np.select(
        [value == red, value == green], [(green - blue) / safe, 2 + (blue - red) / safe], 4 + (red - green) / safe
    )
    hue = np.round(np.where(spread > 0, hue * 30, 0)) % 180
    saturation = np.round(255 * spread / np.maximum(value, 1))
    return np.stack([hue, saturation, value], axis=-1).astype(np.int32)
