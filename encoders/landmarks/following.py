"""Tracking of one face through a clip: windows around it, rejection of other faces, and recovery after a loss.

Shapes: H x W pixels, P landmarks. Boxes are x0, y0, x1, y1; windows are left, top, width, height in whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from encoders.landmarks.face_landmarker import FaceLandmarker
from encoders.protocols import FPS, Face

Window = tuple[int, int, int, int]

WHOLE = 0.25  # smallest height of a single face tracked in the whole picture, relative to the picture's longer side
ROOM = 3.0  # ratio of window side to face size
TIGHT = 2.0  # the same ratio if there are other faces
MARGIN = 0.25  # smallest distance of a face to the edge of its window, in face sizes
JUMP = 0.5  # largest movement of the speaker between two frames, in face sizes
DRIFT = 0.15  # additional movement for every frame without detection, in face sizes
SEARCH_EVERY = 5  # frames between searches while the face is lost
FORGET = FPS  # frames without detection after which any face starts a new shot
# Milliseconds between two frames for MediaPipe. Its video mode smooths landmarks by a causal filter. The weight of the
# past in it fades with the time between frames: at 40 ms the jaw lags by half a frame, at hours nothing is left.
APART = 10_000_000
OVERLAP = 0.3  # smallest intersection over union of two boxes of the same face


def box_of(face: Face) -> np.ndarray:
    """Returns the (4,) tight box of all landmarks."""
    return np.concatenate([face.landmarks.min(0), face.landmarks.max(0)])


def height_of(face: Face) -> float:
    """Returns the height of the face's box, pixels."""
    return float(np.ptp(face.landmarks[:, 1]))


def shifted(face: Face, offset: tuple[int, int]) -> Face:
    """Adds ``offset`` to the landmarks: maps a face from a window to the picture."""
    return replace(face, landmarks=face.landmarks + np.array(offset, np.float32))


def cut(image: np.ndarray, window: Window) -> np.ndarray:
    """Returns the part of an (H, W, 3) image inside a window, as a view."""
    left, top, width, height = window
    return image[top : top + height, left : left + width]


def same_place(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two boxes show the same face: they overlap enough, or one contains the other's centre."""
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared
    return bool(shared > OVERLAP * union) or _contains_centre(a, b) or _contains_centre(b, a)


def _contains_centre(outer: np.ndarray, inner: np.ndarray) -> bool:
    centre = (inner[:2] + inner[2:]) / 2
    return bool((centre >= outer[:2]).all() and (centre <= outer[2:]).all())


def distinct(faces: list[Face]) -> list[Face]:
    """Removes repeated detections of a face and sorts by height, the largest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=height_of, reverse=True):
        if not any(same_place(box_of(face), box_of(other)) for other in kept):
            kept.append(face)
    return kept


def search_windows(width: int, height: int, side: int) -> Iterator[Window]:
    """Yields square windows that cover a picture.

    Neighbours overlap by 40 % of their side, so that a face up to that size lies completely in one window.
    """
    side = min(side, width, height)

    def starts(length: int) -> list[int]:
        count = 1 + int(np.ceil((length - side) / (0.6 * side)))
        return [int(start) for start in np.linspace(0, length - side, count)]

    for top in starts(height):
        for left in starts(width):
            yield left, top, side, side


def cut_by(face: Face, window: Window, size: tuple[int, int]) -> bool:
    """Whether a face touches an edge of the window inside the picture, so that it may be incomplete."""
    left, top, width, height = window
    x0, y0, x1, y1 = box_of(face)
    slack = 0.02 * width
    return bool(
        (left > 0 and x0 < left + slack)
        or (top > 0 and y0 < top + slack)
        or (left + width < size[0] and x1 > left + width - slack)
        or (top + height < size[1] and y1 > top + height - slack)
    )


def window_around(box: np.ndarray, room: float, size: tuple[int, int]) -> Window:
    """Returns a window of ``room`` face sizes around a box, shifted inside a (W, H) picture."""
    side = room * float((box[2:] - box[:2]).max())
    width, height = (min(int(np.ceil(side)), length) for length in size)
    centre = (box[:2] + box[2:]) / 2
    left = int(np.clip(centre[0] - width / 2, 0, size[0] - width))
    top = int(np.clip(centre[1] - height / 2, 0, size[1] - height))
    return left, top, width, height


@dataclass(frozen=True)
class _Sighting:
    """Face of the speaker in one frame, and the shot (part of the clip without a jump) that the frame belongs to."""

    face: Face
    shot: int


class SpeakerFollower:
    """Tracks the largest face of a clip frame by frame.

    MediaPipe's video mode may switch between faces. This class rejects a face whose position or size differs too much
    from the speaker's last one. After one second without the speaker, any face starts a new shot. The result is the
    shot with the most detections.

    Args:
        detect: Detects faces in the whole picture, the largest first.
        search: Detects faces in parts of the picture, which also finds small ones; slow.
        tracker: Creates a landmarker in video mode.
    """

    def __init__(
        self,
        detect: Callable[[np.ndarray], list[Face]],
        search: Callable[[np.ndarray], list[Face]],
        tracker: Callable[[], FaceLandmarker],
    ) -> None:
        self._detect = detect
        self._search = search
        self._new_tracker = tracker
        self._tracker: FaceLandmarker | None = None
        self._window: Window | None = None
        self._room = ROOM
        self._last: tuple[int, np.ndarray] | None = None
        self._searched = -SEARCH_EVERY
        self._shot = 0
        self._seen: list[_Sighting | None] = []

    def __enter__(self) -> SpeakerFollower:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def follow(self, index: int, frame: np.ndarray) -> Face | None:
        """Returns the speaker's face in frame ``index``, or None. Frames must be passed in order, without gaps."""
        face = self._run(index, frame)
        if face is not None and not self._is_speaker(index, face) and self._last is not None:
            # The tracker switched to another face, so it starts again in a window around the speaker's last position.
            self._room = TIGHT
            self._start(window_around(self._last[1], TIGHT, _size(frame)))
            face = self._run(index, frame)
            if face is not None and not self._is_speaker(index, face):
                self._stop()
                face = None
        if face is None and self._acquire(index, frame):
            face = self._run(index, frame)
            if face is not None and not self._is_speaker(index, face):
                self._stop()
                face = None
        if face is not None:
            self._last = (index, box_of(face))
            self._keep_in_window(face, _size(frame))
        self._seen.append(None if face is None else _Sighting(face, self._shot))
        return face

    def speaker(self) -> list[Face | None]:
        """Returns the faces of the shot with the most detections, None for all other frames."""
        counts = np.bincount([sighting.shot for sighting in self._seen if sighting is not None], minlength=1)
        shot = int(counts.argmax())
        return [sighting.face if sighting is not None and sighting.shot == shot else None for sighting in self._seen]

    def _run(self, index: int, frame: np.ndarray) -> Face | None:
        if self._tracker is None:
            return None
        milliseconds = index * APART
        if self._window is None:
            found = self._tracker(frame, milliseconds)
        else:
            found = [shifted(face, self._window[:2]) for face in self._tracker(cut(frame, self._window), milliseconds)]
        return found[0] if found else None

    def _is_speaker(self, index: int, face: Face) -> bool:
        """Whether position and size of a face are possible for the speaker, given the last detection."""
        if self._last is None:
            return True
        seen, last = self._last
        box = box_of(face)
        size, before = (float((b[2:] - b[:2]).max()) for b in (box, last))
        slack = JUMP + DRIFT * (index - seen - 1)
        moved = float(np.hypot(*((box[:2] + box[2:]) / 2 - (last[:2] + last[2:]) / 2)))
        return moved <= slack * max(size, before) and max(size, before) <= (1 + 2 * slack) * min(size, before)

    def _acquire(self, index: int, frame: np.ndarray) -> bool:
        """Searches for the speaker and starts a tracker; one second after a loss, any face is accepted."""
        found = self._detect(frame) or self._detect_near(frame)
        if not found and index - self._searched >= SEARCH_EVERY:
            self._searched = index
            found = self._search(frame)
        lost = self._last is not None and index - self._last[0] > FORGET
        candidates = found if lost else [face for face in found if self._is_speaker(index, face)]
        if not candidates:
            return False
        if lost:
            self._shot += 1
            self._last = None
        box = box_of(candidates[0])
        size = _size(frame)
        self._room = TIGHT if len(found) > 1 else ROOM
        alone = len(found) == 1 and height_of(candidates[0]) >= WHOLE * max(size)
        self._start(None if alone else window_around(box, self._room, size))
        return True

    def _detect_near(self, frame: np.ndarray) -> list[Face]:
        """Detects faces around the speaker's last position, which may be too small to be found in the whole frame."""
        if self._last is None:
            return []
        window = window_around(self._last[1], ROOM, _size(frame))
        return [shifted(face, window[:2]) for face in self._detect(cut(frame, window))]

    def _keep_in_window(self, face: Face, size: tuple[int, int]) -> None:
        """Moves the window and restarts the tracker if the face comes close to an edge or has changed size."""
        if self._window is None:
            return
        box = box_of(face)
        extent = float((box[2:] - box[:2]).max())
        left, top, width, height = self._window
        padded = Face(np.stack([box[:2] - MARGIN * extent, box[2:] + MARGIN * extent]))
        if cut_by(padded, self._window, size) or max(width, height) > 2 * self._room * extent:
            window = window_around(box, self._room, size)
            if window != self._window:
                self._start(window)

    def _start(self, window: Window | None) -> None:
        self._stop()
        self._tracker = self._new_tracker()
        self._window = window

    def _stop(self) -> None:
        if self._tracker is not None:
            self._tracker.close()
        self._tracker = None
        self._window = None


def _size(frame: np.ndarray) -> tuple[int, int]:
    """Returns (W, H) of a frame."""
    return frame.shape[1], frame.shape[0]
