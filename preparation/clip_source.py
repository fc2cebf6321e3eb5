"""A clip on its way through preparation: where it comes from, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from media import MediaError, NoSound


class Reason(StrEnum):
    """Why a clip was not kept. The value is the code in ``report.json``; ``EXPLANATIONS`` says it in words."""

    NO_FACE = "no_face"
    SEVERAL_FACES = "several_faces"
    FACE_LOST = "face_lost"
    FACE_LEAVES_FRAME = "face_leaves_frame"
    FACE_TOO_SMALL = "face_too_small"
    NO_LANDMARKS = "no_landmarks"
    TOO_SHORT = "too_short"
    NO_AUDIO = "no_audio"
    SILENT = "silent"
    AV_MISMATCH = "av_mismatch"
    DECODE_ERROR = "decode_error"
    UNREADABLE = "unreadable"
    MISSING_VIDEO = "missing_video"
    MISSING_CROP = "missing_crop"
    BAD_ANNOTATION = "bad_annotation"
    UNKNOWN_NAME = "unknown_name"
    DUPLICATE = "duplicate"
    NOT_FINITE = "not_finite"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"


EXPLANATIONS: dict[Reason, str] = {
    Reason.NO_FACE: "no face was found in any frame",
    Reason.SEVERAL_FACES: "a second face of comparable size is in view",
    Reason.FACE_LOST: "the face was not found for too long",
    Reason.FACE_LEAVES_FRAME: "the face is partly outside the picture",
    Reason.FACE_TOO_SMALL: "the face is too small for the frame size asked for",
    Reason.NO_LANDMARKS: "the landmark file beside the video is missing or does not fit it",
    Reason.TOO_SHORT: "fewer frames than min_frames",
    Reason.NO_AUDIO: "no sound track, and no separate sound file",
    Reason.SILENT: "the sound track is silent",
    Reason.AV_MISMATCH: "sound and picture differ in length by more than allowed",
    Reason.DECODE_ERROR: "the file is damaged or is not a video",
    Reason.UNREADABLE: "the file or its folder could not be read",
    Reason.MISSING_VIDEO: "the annotation names a video that is not there",
    Reason.MISSING_CROP: "the annotation has no crop box for this clip",
    Reason.BAD_ANNOTATION: "the annotation of this clip cannot be read or contradicts itself",
    Reason.UNKNOWN_NAME: "the path does not follow the dataset's naming, so speaker and labels are unknown",
    Reason.DUPLICATE: "the same clip is there under another name",
    Reason.NOT_FINITE: "an encoder gave NaN or infinite values",
    Reason.ERROR: "something nobody foresaw; please report it",
    Reason.TIMEOUT: "the clip took longer than clip_timeout",
    Reason.CRASHED: "the worker process died while at it",
}

# What the input does not offer is rejected; what went wrong while working on it has failed.
FAILURES = frozenset(
    {Reason.DECODE_ERROR, Reason.UNREADABLE, Reason.NOT_FINITE, Reason.ERROR, Reason.TIMEOUT, Reason.CRASHED}
)


class Rejected(Exception):
    """Raised anywhere in a clip's preparation to say that it is not kept, and why.

    Args:
        reason: the code.
        detail: what was found and what was expected, for this clip.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail or EXPLANATIONS[reason]}")
        self.reason = reason
        self.detail = detail or EXPLANATIONS[reason]

    def __reduce__(self) -> tuple[type[Rejected], tuple[Reason, str]]:
        """Crosses process borders whole."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class ClipSource:
    """One clip to prepare: a video, or a span of one.

    Attributes:
        key: unique name of the clip inside its dataset; ASCII letters, digits, ``_`` and ``-`` only.
        path: the video file.
        name: the path relative to the source folder, as people know it; used in reports.
        speaker: who speaks; person-disjoint splits are made of these.
        split: train, val or test.
        audio: a sound file that replaces the video's own track (MEAD's m4a).
        start: seconds into the video where the clip starts.
        end: seconds where it ends; None for the end of the video.
        crop: (left, top, width, height), where an annotation gives it, in pixels of the video; see ``crop_height``.
        crop_height: height in pixels of the picture that ``crop`` was measured in, None for the video's own size.
        emotion: one of the dataset's emotion names, or None.
        level: emotion intensity 1 to 3, or None.
        view: camera, e.g. ``front``, or None.
        factors: a file of the true factors of a synthetic clip.
        problem: a reason that is known before the file is opened (an annotation without its video).
        problem_detail: the words for it.
        notes: things known about this clip that do not stop it, for its report.
    """

    key: str
    path: Path
    name: str
    speaker: str
    split: str
    audio: Path | None = None
    start: float = 0.0
    end: float | None = None
    crop: tuple[int, int, int, int] | None = None
    crop_height: int | None = None
    emotion: str | None = None
    level: int | None = None
    view: str | None = None
    factors: Path | None = None
    problem: Reason | None = None
    problem_detail: str = ""
    notes: tuple[str, ...] = ()

    def crop_in(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """The annotated crop in pixels of the video as it is, once its size is known.

        An annotation made on a 720p download is scaled to the 1080p one that is there.

        Args:
            width: of the video's pictures, pixels.
            height: of the video's pictures, pixels.

        Returns:
            (left, top, width, height) inside the picture, or None without an annotated crop.

        Raises:
            Rejected: ``bad_annotation`` when more than 2 % of the box lies outside the picture.
        """
        if self.crop is None:
            return None
        scale = height / (self.crop_height or height)
        left, top, box_width, box_height = (value * scale for value in self.crop)
        x0, y0 = max(round(left), 0), max(round(top), 0)
        x1, y1 = min(round(left + box_width), width), min(round(top + box_height), height)
        if max(x1 - x0, 0) * max(y1 - y0, 0) < 0.98 * box_width * box_height or x1 <= x0 or y1 <= y0:
            raise Rejected(
                Reason.BAD_ANNOTATION,
                f"the crop box left {left:.0f}, top {top:.0f}, {box_width:.0f}x{box_height:.0f} does not fit the "
                f"{width}x{height} picture; is this the annotated video, uncropped?",
            )
        return x0, y0, x1 - x0, y1 - y0


@dataclass
class ClipReport:
    """What became of one clip; a row of ``report.json``.

    Attributes:
        source: the clip's name.
        key: its key in the shards.
        status: ``kept``, ``rejected`` or ``failed``.
        reason: the code, None when kept.
        detail: the words, empty when kept.
        frames: frames at 25 fps, 0 when unknown.
        seconds: time spent per step.
        notes: things worth knowing about a kept clip (decoder fallback, sound padded, ...).
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
    """What an unusable file means for its clip; the report's own row names the file, so the words leave it out."""
    if isinstance(error, NoSound):
        reason = Reason.NO_AUDIO
    else:
        reason = Reason.UNREADABLE if isinstance(error.__cause__, PermissionError) else Reason.DECODE_ERROR
    file = clip.audio if clip.audio and clip.audio.name in str(error) else clip.path
    detail = str(error).partition(f"{file.name}: ")[2]
    return Rejected(reason, (f"{file.name}: {detail}" if file != clip.path else detail) or str(error))
