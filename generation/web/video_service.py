"""Turns a request from the web page into a video.

Enforces limits, reports progress and remaining time, and deletes files afterwards. Every visitor has a folder. The
inputs of a video are linked into it and removed from it when the video is done.
"""

from __future__ import annotations

import filecmp
import glob
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from configs.app import AppConfig
from configs.emotion import EmotionConfig
from generation.batch import VideoCase, name_of
from generation.errors import GenerationError
from generation.generate_videos import CASE_ERRORS
from generation.pipeline import EmotiveTalkPipeline, Generated
from generation.record import record_path
from lightning_modules.ethd.sampler import VideoProgress
from media import MediaError, probe, sound_duration

LOG = logging.getLogger(__name__)
# The fields of a request that are files; each has a subfolder of its name in the visitor's folder.
FILES = ("portrait", "speech", "image", "video")
OnStep = Callable[[float, str], object]


class RequestStopped(Exception):
    """Raised in a running request when its visitor pressed Stop or left."""


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


class VideoService:
    """Generates videos for the visitors of the page.

    Args:
        pipeline: Generation pipeline.
        config: Limits.
        folder: Folder of the visitors' files; the caller deletes it.
    """

    def __init__(self, pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path) -> None:
        self.pipeline, self.config, self.folder = pipeline, config, folder
        self.needs_landmarks = pipeline.encoders.landmarks.identity.name == "sidecar"
        self.kept: frozenset[Path] = frozenset()  # files that belong to no visitor: the examples
        self._uploads: dict[str, set[Path]] = {}
        self._stopped: set[str] = set()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()  # there is one device; the page's queue also allows one request at a time

    @property
    def sources(self) -> tuple[str, ...]:
        """Emotion sources that this run supports."""
        exported = self.pipeline.exported
        there = {"label": exported.table is not None, "text": exported.text is not None}
        return tuple(name for name in ("portrait", "label", "text", "image", "video") if there.get(name, True))

    def begin(self, visitor: str) -> None:
        """Registers a visitor's request."""
        self._stopped.discard(visitor)
        self._waiting.add(visitor)

    def stop(self, visitor: str) -> None:
        """Stops a visitor's request at its next step."""
        if visitor in self._waiting:
            self._stopped.add(visitor)

    def leave(self, visitor: str) -> None:
        """Stops a visitor's request and deletes their files, including Gradio's copies."""
        self.stop(visitor)
        home = self.folder / visitor
        for made in (file for file in home.glob("*.*") if file.is_file()):
            for copy in self.folder.glob(f"**/{glob.escape(made.name)}"):
                if copy.parent != home and filecmp.cmp(copy, made, shallow=False):
                    copy.unlink(missing_ok=True)
        mine = self._uploads.pop(visitor, set())
        for upload in mine - self.kept - set().union(*self._uploads.values()):
            upload.unlink(missing_ok=True)
        shutil.rmtree(home, ignore_errors=True)

    def make(self, request: VideoRequest, visitor: str, on_step: OnStep) -> VideoResult:
        """Generates a video. Errors become messages of the result.

        Args:
            request: Values of the form.
            visitor: Name of the visitor; must be a valid folder name.
            on_step: Callback with the completed share (0 to 1) and a text with the remaining time.
        """
        start = time.monotonic()
        try:
            with self._lock:
                case = self._case(request, visitor)
                made = self.pipeline.generate(case, self._progress(visitor, on_step))
            return _made(made, time.monotonic() - start)
        except RequestStopped:
            return VideoResult(None, None, ("Stopped.",), failed=True)
        except CASE_ERRORS as error:
            return VideoResult(None, None, (self._message(error),), failed=True)
        except Exception as error:  # a bug: the visitor gets a message, the terminal the traceback
            LOG.exception("a video could not be generated")
            message = f"Unexpected error ({type(error).__name__}); the server's terminal shows where."
            return VideoResult(None, None, (message,), failed=True)
        finally:
            self._waiting.discard(visitor)
            for name in FILES:
                shutil.rmtree(self.folder / visitor / name, ignore_errors=True)
            if visitor in self._stopped:
                self._stopped.discard(visitor)
                shutil.rmtree(self.folder / visitor, ignore_errors=True)

    def _case(self, request: VideoRequest, visitor: str) -> VideoCase:
        """Links the files of a request into the visitor's folder and returns its case.

        Raises:
            GenerationError: If an input is missing, too long or too large.
        """
        if not request.portrait:
            raise GenerationError("There is no portrait yet: upload a picture or take one with the webcam.")
        if not request.speech:
            raise GenerationError("There is no speech yet: upload a sound file or record one with the microphone.")
        home = self.folder / visitor
        shutil.rmtree(home, ignore_errors=True)  # the previous video was downloaded or is not needed
        given: dict[str, tuple[str, str | None]] = {
            "portrait": (request.portrait, request.landmarks),
            "speech": (request.speech, None),
        }
        emotion = EmotionConfig(strength=request.strength)
        if request.source in ("image", "video"):
            if not (file := getattr(request, request.source)):
                what = {"image": "picture", "video": "video"}[request.source]
                raise GenerationError(
                    f"There is no {what} to take the emotion from: upload one, or choose another source."
                )
            given[request.source] = (file, request.source_landmarks)
        elif request.source == "label":
            emotion.label, emotion.level = request.label, request.level
        elif request.source == "text":
            if not (request.text or "").strip():
                raise GenerationError("There are no words yet that say how to speak, e.g. 'a warm smile'.")
            emotion.text = request.text
        mine = self._uploads.setdefault(visitor, set())
        mine.update(Path(file) for pair in given.values() for file in pair if file)
        placed = {name: self._place(home / name, file, sidecar) for name, (file, sidecar) in given.items()}
        for name in ("speech", "video"):
            self._require_short(placed.get(name))
        for name in ("image", "video"):
            if name in placed:
                setattr(emotion, name, str(placed[name]))
        case = VideoCase(
            portrait=placed["portrait"],
            speech=placed["speech"],
            output=home,
            emotion=emotion,
            steps=request.steps,
            seed=request.seed,
            paste_back=request.paste_back,
        )
        return replace(case, output=home / f"{name_of(case)}.mp4")

    def _place(self, folder: Path, file: str, landmarks: str | None) -> Path:
        """Links an upload and its landmarks into a folder and returns the path of the upload there."""
        source = Path(file)
        try:
            size = source.stat().st_size
            if size > self.config.max_megabytes * 1e6:
                raise GenerationError(
                    f"{source.name}: has {size / 1e6:.0f} MB, at most {self.config.max_megabytes:g} MB are taken here."
                )
            folder.mkdir(parents=True)
            placed = folder / source.name
            _link(source, placed)
            if self.needs_landmarks and folder.name != "speech":
                if landmarks is None:
                    raise GenerationError(
                        f"{source.name}: this run was trained on data with landmark files and cannot find a face by "
                        f"itself. Add the picture's landmarks, {source.stem}.csv as OpenFace writes it, or start the "
                        "page with landmarks=mediapipe."
                    )
                _link(Path(landmarks), placed.with_suffix(".csv"))
        except FileNotFoundError:
            raise GenerationError(f"{source.name}: was deleted after a while; upload it again.") from None
        return placed

    def _require_short(self, file: Path | None) -> None:
        if file is None:
            return
        try:
            length = probe(file).duration if file.parent.name == "video" else sound_duration(file)
        except MediaError:
            if file.parent.name == "video":
                raise
            raise GenerationError(f"{file.name}: has no sound track that can be read; upload a sound file.") from None
        if length > self.config.max_seconds:
            raise GenerationError(
                f"{file.name}: lasts {length:.0f} s, at most {self.config.max_seconds:g} s are taken here; cut out a "
                "part, or use generate.py, which has no limit."
            )

    def _progress(self, visitor: str, on_step: OnStep) -> Callable[[VideoProgress], None]:
        """Returns a callback that reports progress and remaining time, and raises if the visitor stopped or left."""
        begun: dict[str, float] = {}

        def on_progress(progress: VideoProgress) -> None:
            if visitor in self._stopped:
                raise RequestStopped
            now = time.monotonic()
            # Seconds per step are known from the second step on: the first call starts the clock.
            first = begun.setdefault(progress.stage, now)
            done = progress.done - 1
            left = f", about {_duration((now - first) / done * (progress.total - progress.done))} left" if done else ""
            what = {"sampling": "Sampling, step", "writing": "Writing, frame"}[progress.stage]
            on_step(progress.done / progress.total, f"{what} {progress.done} of {progress.total}{left}")

        if visitor in self._stopped:
            raise RequestStopped
        on_step(0.0, "Looking at the portrait, listening to the speech")
        return on_progress

    def _message(self, error: Exception) -> str:
        """Returns an error's message without the server's folders."""
        return re.sub(rf"{re.escape(str(self.folder))}{os.sep}(?:[\w.-]+{os.sep})*", "", str(error))


def _made(made: Generated, seconds: float) -> VideoResult:
    summary = f"{made.path.name}: {made.frames} frames, {made.size[0]}x{made.size[1]}, made in {_duration(seconds)}."
    notes = (re.sub(r"(=|^)/\S*/", r"\1", note) for note in made.notes)
    return VideoResult(made.path, record_path(made.path), (summary, *notes))


def _link(source: Path, target: Path) -> None:
    """Creates a hard link, or a copy if the file system has no links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
