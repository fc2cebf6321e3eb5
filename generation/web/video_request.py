"""A visitor's request for a video: the values of the form, checked, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.emotion import EmotionConfig
from configs.errors import ConfigError
from configs.generation import GuidanceConfig
from generation.batch import CONSTRAINTS
from generation.errors import GenerationError
from lightning_modules.ethd.guidance import Guidance

SOURCES = ("portrait", "label", "text", "image", "video")
MAX_STEPS = 50
MAX_TEXT = 200  # characters of a description
HUGE = 1e301  # JSON's whole numbers can have thousands of digits
UPLOADS = ("portrait", "speech", "image", "video", "landmarks", "source_landmarks")
# Field -> key of generate.py, whose constraint it has.
LIMITED = {
    "steps": "steps",
    "seed": "seed",
    "level": "emotion.level",
    "strength": "emotion.strength",
    "blinks": "motion.blinks",
    "head": "motion.head",
    "lips_strength": "lips.strength",
    "guidance_lips": "guidance.lips",
    "guidance_expression": "guidance.expression",
}


@dataclass(frozen=True)
class VideoRequest:
    """Values of the form. Files are paths of uploads.

    Attributes:
        portrait: Image of the face to animate.
        speech: File with sound.
        landmarks: Landmarks of the portrait, if the run reads them from files.
        source: Emotion source: portrait, label, text, image or video.
        label: Name of an emotion.
        level: Level of the label.
        text: Description of the emotion.
        image: Image of an expression.
        video: Video whose expression is used frame by frame.
        source_landmarks: Landmarks of ``image`` or ``video``.
        strength: Strength of the emotion, 0 to 2.
        steps: DDIM steps.
        seed: Seed of all noise.
        paste_back: Whether the generated face is pasted back into the whole portrait.
        blinks: Blinks per minute; None for those that are predicted.
        head: Amount of head motion, 0 to 2.
        lips_strength: Strength of the lip movements, 0 to 2.
        guidance_lips: Scale of the lip condition; None for that of the training.
        guidance_expression: Scale of the expression condition; None for that of the training.
    """

    portrait: str | None
    speech: str | None
    landmarks: str | None = None
    source: str = "portrait"
    label: str | None = None
    level: int | None = None
    text: str | None = None
    image: str | None = None
    video: str | None = None
    source_landmarks: str | None = None
    strength: float = 1.0
    steps: int | None = None
    seed: int = 0
    paste_back: bool = False
    blinks: float | None = None
    head: float = 1.0
    lips_strength: float = 1.0
    guidance_lips: float | None = None
    guidance_expression: float | None = None


@dataclass(frozen=True)
class VideoResult:
    """Result of a request.

    Attributes:
        video: Video file, or None.
        record: Record of the video (``.json``), or None.
        words: Messages for the visitor, one line each; the first is the outcome.
        failed: Whether the request failed.
    """

    video: Path | None
    record: Path | None
    words: tuple[str, ...]
    failed: bool = False


def request_of(values: Mapping[str, Any]) -> VideoRequest:
    """Checks the values of a form, which can come from any program. Emptied fields are None and get their default.

    Args:
        values: Value of each field of ``VideoRequest``; a file is ``{"path": ...}``, as Gradio sends it.

    Raises:
        GenerationError: Names the field, its value and what is expected.
    """
    names = ("seed", "strength", "lips_strength", "guidance_lips", "guidance_expression", "blinks", "head")
    numbers = {name: _number(name, values.get(name)) for name in names}
    given: dict[str, Any] = {name: number for name, number in numbers.items() if number is not None}
    given |= {name: _path(name, values.get(name)) for name in UPLOADS}
    request = VideoRequest(
        **given | {"seed": int(numbers["seed"] or 0)},
        source=_text("source", values.get("source")) or "",
        label=_text("label", values.get("label")),
        text=_text("text", values.get("text")),
        level=_whole("level", values.get("level")),
        steps=_whole("steps", values.get("steps")),
        paste_back=bool(values.get("paste_back")),
    )
    if (length := len(request.text or "")) > MAX_TEXT:
        raise GenerationError(f"The description has {length} characters, at most {MAX_TEXT} are taken.")
    if request.source not in SOURCES:
        raise GenerationError(f"source: expected one of {', '.join(SOURCES)}.")
    if request.steps is not None and request.steps > MAX_STEPS:
        raise GenerationError(f"steps={request.steps}: at most {MAX_STEPS} steps are taken here.")
    try:
        for name, key in LIMITED.items():
            if (value := getattr(request, name)) is not None:
                CONSTRAINTS[key].require(name, value)
    except ConfigError as error:
        raise GenerationError(f"{error}.") from None
    return request


def files_of(request: VideoRequest) -> dict[str, tuple[str, str | None]]:
    """The upload and the landmark file of each file field that a request uses.

    Raises:
        GenerationError: If one is missing.
    """
    if not request.portrait:
        raise GenerationError("There is no portrait yet: upload a picture or take one with the webcam.")
    if not request.speech:
        raise GenerationError("There is no speech yet: upload a sound file or record one with the microphone.")
    given: dict[str, tuple[str, str | None]] = {
        "portrait": (request.portrait, request.landmarks),
        "speech": (request.speech, None),
    }
    if request.source in ("image", "video"):
        if not (file := getattr(request, request.source)):
            what = {"image": "picture", "video": "video"}[request.source]
            raise GenerationError(f"There is no {what} to take the emotion from: upload one, or choose another source.")
        given[request.source] = (file, request.source_landmarks)
    return given


def emotion_of(request: VideoRequest, placed: dict[str, Path]) -> EmotionConfig:
    """The emotion source of a request, whose files were placed.

    Raises:
        GenerationError: If there is no description.
    """
    emotion = EmotionConfig(strength=request.strength)
    if request.source == "label":
        emotion.label, emotion.level = request.label, request.level
    elif request.source == "text":
        if not (request.text or "").strip():
            raise GenerationError("There are no words yet that say how to speak, e.g. 'a warm smile'.")
        emotion.text = request.text
    elif request.source in placed:
        setattr(emotion, request.source, str(placed[request.source]))
    return emotion


def guidance_in(request: VideoRequest, trained: Guidance) -> GuidanceConfig:
    """The guidance of a request. A scale equal to that of the training is None, so that records are equal too."""
    lips, expression = request.guidance_lips, request.guidance_expression
    return GuidanceConfig(
        lips=None if lips == trained.lips else lips,
        expression=None if expression == trained.expression else expression,
    )


def _path(name: str, value: Any) -> str | None:
    """Path of a file as Gradio sends it."""
    return _text(name, value.get("path") if isinstance(value, dict) else value)


def _text(name: str, value: Any) -> str | None:
    if not isinstance(value, str | None):
        raise GenerationError(f"{name}: expected a text or a file.")
    return value


def _whole(name: str, value: Any) -> int | None:
    number = _number(name, value)
    return None if number is None else int(number)


def _number(name: str, value: Any) -> int | float | None:
    """A finite number; None for an emptied field. Gradio sends whole numbers as floats too."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < HUGE:
        raise GenerationError(f"{name}: expected a number.")
    return value
