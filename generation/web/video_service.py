"""From what a visitor filled in to a video: limits, progress with the time left, errors in words, files that go again.

Every visitor has a folder of their own; a video's inputs are linked into it and leave it when the video is made.
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
from generation.generate_videos import OF_ONE_CASE
from generation.pipeline import EmotiveTalkPipeline, Generated
from generation.record import record_path
from lightning_modules.ethd.sampler import VideoProgress
from media import MediaError, probe, sound_duration

LOG = logging.getLogger(__name__)
# The parts of a request that are files, and where they go in the visitor's folder.
FILES = ("portrait", "speech", "image", "video")
OnStep = Callable[[float, str], object]


class RequestStopped(Exception):
    """The visitor pressed Stop or left."""


@dataclass(frozen=True)
class VideoRequest:
    """What a visitor filled in; files are paths of uploads.

    Attributes:
        portrait: a picture.
        speech: a file with sound.
        landmarks: of the portrait, where the run reads them from files.
        source: portrait, label, text, image or video: where the emotion comes from.
        label: an emotion's name.
        level: of the label.
        text: words.
        image: a picture of an expression.
        video: an expression frame by frame.
        source_landmarks: of ``image`` or ``video``.
        strength: 0 to 2.
        steps: of DDIM.
        seed: of all noise.
        paste_back: whether the face goes back into the whole portrait.
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
    """What became of a request.

    Attributes:
        video: the file, or None.
        record: the ``.json`` beside it, or None.
        words: what to tell the visitor, one line each; the first says how it went.
        failed: whether those lines are about what went wrong.
    """

    video: Path | None
    record: Path | None
    words: tuple[str, ...]
    failed: bool = False


class VideoService:
    """Makes videos for the visitors of a page.

    Args:
        pipeline: what makes them.
        config: limits.
        folder: for the visitors' files; the caller deletes it in the end.
    """

    def __init__(self, pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path) -> None:
        self.pipeline, self.config, self.folder = pipeline, config, folder
        self.needs_landmarks = pipeline.encoders.landmarks.identity.name == "sidecar"
        self.kept: frozenset[Path] = frozenset()  # uploads that are nobody's: the examples
        self._uploads: dict[str, set[Path]] = {}
        self._stopped: set[str] = set()
        self._waiting: set[str] = set()
        self._lock = threading.Lock()  # one device; the page's queue sees to it too

    @property
    def sources(self) -> tuple[str, ...]:
        """Where this run can take an emotion from."""
        exported = self.pipeline.exported
        there = {"label": exported.table is not None, "text": exported.text is not None}
        return tuple(name for name in ("portrait", "label", "text", "image", "video") if there.get(name, True))

    def begin(self, visitor: str) -> None:
        """Notes that a visitor waits for a video."""
        self._stopped.discard(visitor)
        self._waiting.add(visitor)

    def stop(self, visitor: str) -> None:
        """Ends what a visitor waits for, at its next step."""
        if visitor in self._waiting:
            self._stopped.add(visitor)

    def leave(self, visitor: str) -> None:
        """Ends what a visitor waits for and deletes their files, the page's own copies included."""
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
        """Makes a video, or says in words why not.

        Args:
            request: what was filled in.
            visitor: whose it is; a name that can be one of a folder.
            on_step: Receives the share that is done, 0 to 1, and what is going on, with the time left.
        """
        start = time.monotonic()
        try:
            with self._lock:
                case = self._case(request, visitor)
                made = self.pipeline.generate(case, self._progress(visitor, on_step))
            return _made(made, time.monotonic() - start)
        except RequestStopped:
            return VideoResult(None, None, ("Stopped.",), failed=True)
        except OF_ONE_CASE as error:
            return VideoResult(None, None, (self._plain(error),), failed=True)
        except Exception as error:  # a bug: the visitor gets words, the terminal the traceback
            LOG.exception("a video could not be made")
            message = f"Something nobody foresaw went wrong ({type(error).__name__}); the server's terminal says where."
            return VideoResult(None, None, (message,), failed=True)
        finally:
            self._waiting.discard(visitor)
            for name in FILES:
                shutil.rmtree(self.folder / visitor / name, ignore_errors=True)
            if visitor in self._stopped:
                self._stopped.discard(visitor)
                shutil.rmtree(self.folder / visitor, ignore_errors=True)

    def _case(self, request: VideoRequest, visitor: str) -> VideoCase:
        """The case of a request, its files in the visitor's folder.

        Raises:
            GenerationError: for what is missing, too long or too large.
        """
        if not request.portrait:
            raise GenerationError("There is no portrait yet: upload a picture or take one with the webcam.")
        if not request.speech:
            raise GenerationError("There is no speech yet: upload a sound file or record one with the microphone.")
        home = self.folder / visitor
        shutil.rmtree(home, ignore_errors=True)  # the last video was downloaded or is not needed
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
        """An upload in the visitor's folder, with its landmarks beside it."""
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
        """Tells the share that is done and the time left; ends the work of a visitor who stopped or left."""
        begun: dict[str, float] = {}

        def on_progress(progress: VideoProgress) -> None:
            if visitor in self._stopped:
                raise RequestStopped
            now = time.monotonic()
            # The first step is as old as the stage itself: what one step takes is known from the second on.
            first = begun.setdefault(progress.stage, now)
            done = progress.done - 1
            left = f", about {_spoken((now - first) / done * (progress.total - progress.done))} left" if done else ""
            what = {"sampling": "Sampling, step", "writing": "Writing, frame"}[progress.stage]
            on_step(progress.done / progress.total, f"{what} {progress.done} of {progress.total}{left}")

        if visitor in self._stopped:
            raise RequestStopped
        on_step(0.0, "Looking at the portrait, listening to the speech")
        return on_progress

    def _plain(self, error: Exception) -> str:
        """An error's words without the folders of this server."""
        return re.sub(rf"{re.escape(str(self.folder))}{os.sep}(?:[\w.-]+{os.sep})*", "", str(error))


def _made(made: Generated, seconds: float) -> VideoResult:
    message = f"{made.path.name}: {made.frames} frames, {made.size[0]}x{made.size[1]}, made in {_spoken(seconds)}."
    notes = (re.sub(r"(=|^)/\S*/", r"\1", note) for note in made.notes)
    return VideoResult(made.path, record_path(made.path), (message, *notes))


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
