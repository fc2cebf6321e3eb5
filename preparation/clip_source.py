"""Description of a clip to prepare, the reasons for rejecting it, and the report on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from media import CancelledSound, MediaError, NoSound
from runtime.errors import UserError

ROUNDED = 1.0  # seconds by which the end of a span may be after that of its video


class Reason(StrEnum):
    """Reason why a clip was not kept. The value is the code in ``report.json``; ``EXPLANATIONS`` gives the meaning."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_LOST = "face_lost"
    FACE_LEAVES_FRAME = "face_leaves_frame"
    FACE_TOO_SMALL = "face_too_small"
    NO_LANDMARKS = "no_landmarks"
    TOO_SHORT = "too_short"
    NO_AUDIO = "no_audio"
    SILENT = "silent"
    CANCELLED_SOUND = "cancelled_sound"
    AV_MISMATCH = "av_mismatch"
    DECODE_ERROR = "decode_error"
    UNREADABLE = "unreadable"
    MISSING_VIDEO = "missing_video"
    MISSING_CROP = "missing_crop"
    BAD_ANNOTATION = "bad_annotation"
    BAD_ROW = "bad_row"
    OUTSIDE_VIDEO = "outside_video"
    UNKNOWN_NAME = "unknown_name"
    DUPLICATE = "duplicate"
    CUTS = "cuts"
    NOT_CHOSEN = "not_chosen"
    NOT_FINITE = "not_finite"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


EXPLANATIONS: dict[Reason, str] = {
    Reason.NO_FACE: "no face was found in any frame",
    Reason.SEVERAL_FACES: "a second face of comparable size is visible",
    Reason.FACE_LOST: "the face was not found in too many frames",
    Reason.FACE_LEAVES_FRAME: "the face is partly outside the picture",
    Reason.FACE_TOO_SMALL: "the face is too small for the requested frame size",
    Reason.NO_LANDMARKS: "the landmark file next to the video is missing or does not match it",
    Reason.TOO_SHORT: "fewer frames than min_frames",
    Reason.NO_AUDIO: "no sound track, and no separate sound file",
    Reason.SILENT: "the sound track is silent",
    Reason.CANCELLED_SOUND: "the channels of the sound cancel each other: one is inverted",
    Reason.AV_MISMATCH: "the lengths of sound and picture differ by more than audio.max_mismatch",
    Reason.DECODE_ERROR: "the file is damaged or is not a video",
    Reason.UNREADABLE: "the file or its folder could not be read",
    Reason.MISSING_VIDEO: "the annotation names a video that is missing from the source folder",
    Reason.MISSING_CROP: "the annotation has no crop box for this clip",
    Reason.BAD_ANNOTATION: "the annotation of this clip cannot be read or contradicts itself",
    Reason.BAD_ROW: "the row of the list has an error",
    Reason.OUTSIDE_VIDEO: "the clip's span or crop is not in the video, which is another one or cut short",
    Reason.UNKNOWN_NAME: "the path does not follow the dataset's naming, so speaker and labels are unknown",
    Reason.DUPLICATE: "the same clip exists under another name, or in another file",
    Reason.CUTS: "the clip has cuts; task=scan and task=encode keep each of its shots",
    Reason.NOT_CHOSEN: "the shot does not meet select",
    Reason.NOT_FINITE: "an encoder returned NaN or infinite values",
    Reason.ERROR: "unexpected error; please report it",
    Reason.TIMEOUT: "the clip took longer than clip_timeout",
    Reason.CRASHED: "the worker process died during this clip",
}

# A clip with one of these reasons has status "failed": an error occurred. With any other it is "rejected": it is
# readable but unsuitable.
FAILURES = frozenset(
    {
        Reason.BAD_ROW,
        Reason.OUTSIDE_VIDEO,
        Reason.DECODE_ERROR,
        Reason.UNREADABLE,
        Reason.NOT_FINITE,
        Reason.ERROR,
        Reason.TIMEOUT,
        Reason.CRASHED,
    }
)


class Rejected(Exception):
    """Raised during preparation of a clip that cannot be kept.

    Args:
        reason: Code of the reason.
        detail: Finding and expectation for this clip; the general explanation where empty.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or EXPLANATIONS[reason]}")
        self.reason = reason
        self.detail = detail or EXPLANATIONS[reason]

    def __reduce__(self) -> tuple[type[Rejected], tuple[Reason, str]]:
        """Pickles both arguments; exceptions keep only the message by default."""
        return type(self), (self.reason, self.detail)


class OutOfMemory(UserError):
    """Raised if a clip needs more memory than there is, which is no property of the clip."""


@dataclass(frozen=True)
class ClipSource:
    """One clip to prepare: a video, or a span of one.

    Attributes:
        key: Unique name of the clip in its dataset; ASCII letters, digits, ``_`` and ``-`` only.
        path: Video file.
        name: Path relative to the source folder, used in reports.
        speaker: Name of the speaker; person-disjoint splits are made of these.
        split: Split of the clip: train, val or test.
        audio: Sound file that replaces the video's own track (MEAD's m4a), or None.
        start: Start of the clip in the video, seconds.
        end: End of the clip in the video, seconds; None for the end of the video.
        lag: Frames by which the sound is behind the lips; negative if it is ahead. It is moved back by them.
        crop: Annotated crop (left, top, width, height), pixels of a picture of height ``crop_height``; None where
            there is no annotation.
        crop_height: Height of the picture in which ``crop`` was measured, pixels; None for the video's own height.
        emotion: Emotion name of the dataset, or None.
        level: Emotion intensity, 1 to 3, or None.
        view: Camera, e.g. ``front``, or None.
        factors: File with the true factors of a synthetic clip, or None.
        problem: Reason for rejection that is known before the file is opened (e.g. an annotation without a video).
        problem_detail: Explanation of ``problem`` for this clip.
        notes: Remarks for the clip's report that do not lead to rejection.
    """

    key: str
    path: Path
    name: str
    speaker: str
    split: str
    audio: Path | None = None
    start: float = 0.0
    end: float | None = None
    lag: int = 0
    crop: tuple[int, int, int, int] | None = None
    crop_height: int | None = None
    emotion: str | None = None
    level: int | None = None
    view: str | None = None
    factors: Path | None = None
    problem: Reason | None = None
    problem_detail: str = ""
    notes: tuple[str, ...] = ()

    def end_in(self, duration: float) -> float | None:
        """End of the clip in a video, seconds; None for the end of the video.

        Spans are often rounded to seconds: one that ends within a second after the video ends with it.

        Args:
            duration: Length of the video, seconds.

        Raises:
            Rejected: ``outside_video`` if the clip starts or ends after the video.
        """
        if self.end is not None and self.end > duration + ROUNDED:
            raise Rejected(
                Reason.OUTSIDE_VIDEO, f"the clip ends at {self.end:g} s, but the video lasts {duration:.2f} s"
            )
        if self.start >= duration:
            raise Rejected(
                Reason.OUTSIDE_VIDEO, f"the clip starts at {self.start:g} s, but the video lasts {duration:.2f} s"
            )
        return None if self.end is None or self.end > duration else self.end

    def crop_in(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """Scales the annotated crop to the resolution of the video.

        An annotation made on a 720p download is scaled to a 1080p file, for example.

        Args:
            width: Width of the video, pixels.
            height: Height of the video, pixels.

        Returns:
            (left, top, width, height) inside the picture, or None without an annotated crop.

        Raises:
            Rejected: ``outside_video`` if more than 2 % of the box lies outside the picture.
        """
        if self.crop is None:
            return None
        scale = height / (self.crop_height or height)
        left, top, box_width, box_height = (value * scale for value in self.crop)
        x0, y0 = max(round(left), 0), max(round(top), 0)
        x1, y1 = min(round(left + box_width), width), min(round(top + box_height), height)
        if max(x1 - x0, 0) * max(y1 - y0, 0) < 0.98 * box_width * box_height or x1 <= x0 or y1 <= y0:
            raise Rejected(
                Reason.OUTSIDE_VIDEO,
                f"the crop box left {left:.0f}, top {top:.0f}, {box_width:.0f}x{box_height:.0f} does not fit the "
                f"{width}x{height} picture; check that this is the annotated, uncropped video",
            )
        return x0, y0, x1 - x0, y1 - y0


@dataclass
class ClipReport:
    """Result of preparing one clip; a row of ``report.json``.

    Attributes:
        source: Name of the clip.
        key: Key of the clip in the shards.
        status: ``kept``, ``rejected`` or ``failed``.
        reason: Code of the reason, None when kept.
        detail: Explanation of the reason, empty when kept.
        frames: Number of frames at 25 fps, 0 when unknown.
        seconds: Time spent in each step, seconds.
        notes: Remarks (decoder fallback, sound padded, ...).
    """

    source: str
    key: str
    status: str
    reason: str | None = None
    detail: str = ""
    frames: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def media_problem(clip: ClipSource, error: MediaError) -> Rejected:
    """Converts a media error to a rejection of the clip.

    The row of the report names the video already, so its name is removed from the detail.
    """
    if isinstance(error, NoSound):
        reason = Reason.NO_AUDIO
    elif isinstance(error, CancelledSound):
        reason = Reason.CANCELLED_SOUND
    else:
        reason = Reason.UNREADABLE if isinstance(error.__cause__, PermissionError) else Reason.DECODE_ERROR
    file = clip.audio if clip.audio and clip.audio.name in str(error) else clip.path
    detail = str(error).partition(f"{file.name}: ")[2]
    return Rejected(reason, (f"{file.name}: {detail}" if file != clip.path else detail) or str(error))
