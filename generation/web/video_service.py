"""Turns a request from the web page into a video.

    place in the queue -> copies of the uploads -> look at them -> turn on the device -> video

Looking at the uploads does not hold the device. Stop ends a request at any of these stages.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.app import AppConfig
from configs.emotion import EmotionConfig
from configs.generation import LipsConfig, MotionConfig
from generation.batch import VideoCase, name_of
from generation.errors import GenerationError
from generation.examples import LEVEL, VIDEO, ExampleSpeaker
from generation.generate_videos import CASE_ERRORS
from generation.pipeline import EmotiveTalkPipeline, Generated
from generation.record import record_path
from generation.web.device_queue import DeviceQueue
from generation.web.looking import require_usable
from generation.web.video_request import (
    SOURCES,
    VideoRequest,
    VideoResult,
    emotion_of,
    files_of,
    guidance_in,
    request_of,
)
from generation.web.visitors import Visitors
from lightning_modules.ethd.guidance import trained_guidance
from lightning_modules.ethd.sampler import VideoProgress
from runtime.errors import message_of
from runtime.files import write_whole
from runtime.stopping import stoppable

LOG = logging.getLogger(__name__)
INPUTS = "inputs"
FOLDER_LEFT = re.compile(r"(^|[\s'\"(=:])([A-Za-z]:)?[/\\][^\s/\\]+[/\\]")  # an absolute path in a message
OnStep = Callable[[float, str], object]


class RequestStopped(Exception):
    """Raised in a running request when its visitor pressed Stop or left."""


class OutOfTime(Exception):
    """Raised in a running request whose visitor used the device for long while others wait."""


class VideoService:
    """Generates videos for the visitors of the page.

    Args:
        pipeline: Generation pipeline.
        config: Limits.
        folder: Folder of the server; the caller deletes it.
    """

    def __init__(self, pipeline: EmotiveTalkPipeline, config: AppConfig, folder: Path) -> None:
        self.pipeline, self.config, self.folder = pipeline, config, folder
        self.needs_landmarks = pipeline.encoders.landmarks.identity.name == "sidecar"
        self.visitors = Visitors(config, folder, self.stop)
        self.queue = DeviceQueue(config.max_waiting, config.visitor_waiting, config.visitor_minutes)
        self._stops: dict[str, threading.Event] = {}
        self._ended = threading.Event()

    @property
    def sources(self) -> tuple[str, ...]:
        """Emotion sources that this run supports."""
        exported = self.pipeline.exported
        there = {"label": exported.table is not None, "text": exported.text is not None}
        return tuple(name for name in SOURCES if there.get(name, True))

    def is_example(self, file: Path) -> bool:
        """Whether a file is one of an example speaker."""
        return self.visitors.examples.resolve() in file.resolve().parents

    def make_example(self, speaker: ExampleSpeaker) -> Generated:
        """Generates the video of an example, next to its files, before the page is served."""
        level = None if self.pipeline.exported.table is None else LEVEL
        emotion = EmotionConfig(label=speaker.emotion, level=level) if level else EmotionConfig()
        case = VideoCase(speaker.portrait, speaker.speech, self.visitors.examples / VIDEO, emotion)
        made = self.pipeline.generate(case)
        self._clean_record(made)
        return made

    def begin(self, session: str) -> None:
        """Announces a request of a session, so that Stop can end it from now on."""
        self._stops[session] = threading.Event()

    def stop(self, session: str) -> None:
        """Stops a session's request."""
        if (event := self._stops.get(session)) is not None:
            event.set()

    def close(self) -> None:
        """Stops all requests, those that come later too."""
        self._ended.set()

    def make(self, values: dict[str, Any] | VideoRequest, session: str, on_step: OnStep) -> VideoResult:
        """Generates a video. Errors become messages of the result.

        Args:
            values: Values of the form by their names in ``VideoRequest``, or a checked request.
            session: Session that was bound to a visitor.
            on_step: Callback with the completed share (0 to 1) and a text with the remaining time.
        """
        start = time.monotonic()
        stop = self._stops.setdefault(session, threading.Event())

        def check() -> None:
            if stop.is_set() or self._ended.is_set():
                raise RequestStopped

        made: Generated | None = None
        try:
            check()
            visitor = self.visitors.visitor_of(session)
            request = values if isinstance(values, VideoRequest) else request_of(values)
            with self.queue.place(visitor), self.visitors.request(session) as home:
                try:
                    made = self._make(request, session, visitor, home, check, on_step)
                finally:
                    for left in (home / INPUTS, *([] if made else [home])):
                        shutil.rmtree(left, ignore_errors=True)
            return self._made(made, time.monotonic() - start)
        except RequestStopped:
            return VideoResult(None, None, ("Stopped.",), failed=True)
        except OutOfTime:
            words = f"Stopped after {self.config.visitor_minutes:g} minutes of this hour, since others wait."
            return VideoResult(None, None, (words,), failed=True)
        except CASE_ERRORS as error:
            return VideoResult(None, None, (self._message(error),), failed=True)
        except Exception as error:  # a bug: the visitor gets a message, the terminal the traceback
            LOG.exception("a video could not be generated")
            message = f"Unexpected error ({type(error).__name__}); the server's terminal shows where."
            return VideoResult(None, None, (message,), failed=True)
        finally:
            if self._stops.get(session) is stop:
                del self._stops[session]

    def _make(
        self,
        request: VideoRequest,
        session: str,
        visitor: str,
        home: Path,
        check: Callable[[], None],
        on_step: OnStep,
    ) -> Generated:
        """Generates the video of a request in the folder ``home``."""
        on_step(0.0, "Looking at the files")
        placed = {name: self._place(session, home / INPUTS / name, *given) for name, given in files_of(request).items()}
        case = VideoCase(
            portrait=placed["portrait"],
            speech=placed["speech"],
            output=home,
            emotion=emotion_of(request, placed),
            steps=request.steps,
            seed=request.seed,
            paste_back=request.paste_back,
            guidance=guidance_in(request, trained_guidance(self.pipeline.exported.info.config)),
            lips=LipsConfig(strength=request.lips_strength),
            motion=MotionConfig(blinks=request.blinks, head=request.head),
        )
        with stoppable(check):
            require_usable(case, self.config)

        def check_turn() -> None:
            check()
            if self.queue.is_over(visitor):
                raise OutOfTime

        def on_wait(before: int) -> None:
            on_step(0.0, f"Waiting; {before} {'video is' if before == 1 else 'videos are'} made first")

        with self.queue.turn(visitor, check, on_wait), stoppable(check_turn):
            on_step(0.0, "Looking at the portrait, listening to the speech")
            output = home / f"{name_of(case)}.mp4"
            return self.pipeline.generate(replace(case, output=output), _progress(check_turn, on_step))

    def _place(self, session: str, folder: Path, file: str, landmarks: str | None) -> Path:
        """Copies an upload and its landmarks into a folder and returns the path of the copy.

        Copies, not links: nothing that happens to them reaches the upload.
        """
        source = Path(file)
        try:
            self.visitors.use(session, source)
            if self.needs_landmarks and folder.name != "speech":
                if self.is_example(source) and (own := source.with_suffix(".csv")).is_file():
                    landmarks = str(own)
                if landmarks is None:
                    raise GenerationError(
                        f"{source.name}: this run was trained on data with landmark files and cannot find a face by "
                        f"itself. Add the picture's landmarks, {source.stem}.csv as OpenFace writes it, or start the "
                        "page with landmarks=mediapipe."
                    )
                self.visitors.use(session, Path(landmarks))
            size = source.stat().st_size
            if size > self.config.max_megabytes * 1e6:
                raise GenerationError(
                    f"{source.name}: has {size / 1e6:.0f} MB, at most {self.config.max_megabytes:g} MB are taken here."
                )
            folder.mkdir(parents=True)
            placed = Path(shutil.copyfile(source, folder / source.name))
            if self.needs_landmarks and landmarks is not None and folder.name != "speech":
                if placed.suffix == ".csv":
                    raise GenerationError(f"{source.name}: is named as a landmark file; expected a picture or a video.")
                shutil.copyfile(landmarks, placed.with_suffix(".csv"))
        except FileNotFoundError:
            raise GenerationError(f"{source.name}: was deleted after a while; upload it again.") from None
        return placed

    def _made(self, made: Generated, seconds: float) -> VideoResult:
        frames = f"{made.frames} frames, {made.size[0]}x{made.size[1]}"
        summary = f"{made.path.name}: {frames}, made in {_duration(seconds)}."
        record = self._clean_record(made)
        return VideoResult(made.path, record, (summary, *map(self._without_folders, made.notes)))

    def _clean_record(self, made: Generated) -> Path:
        """Removes the server's folders from the record of a video; returns its path."""
        record = record_path(made.path)
        written = json.loads(record.read_text(encoding="utf-8"))
        write_whole(record, json.dumps(self._without_folders(written), indent=1, ensure_ascii=False) + "\n")
        return record

    def _message(self, error: Exception) -> str:
        """Returns an error's message without the server's folders. What is not about the visitor's files is logged."""
        message = self._without_folders(message_of(error))
        if FOLDER_LEFT.search(message):
            LOG.error("a video could not be generated: %s", error)
            return "The server cannot make videos now; its terminal shows why."
        return message

    def _without_folders(self, value: Any) -> Any:
        """A text, or a value of JSON, in which files are named without the server's folders."""
        if isinstance(value, dict):
            return {name: self._without_folders(entry) for name, entry in value.items()}
        if isinstance(value, list):
            return [self._without_folders(entry) for entry in value]
        if not isinstance(value, str):
            return value
        folder = re.escape(str(self.folder))
        return re.sub(rf"{folder}([/\\][\w.-]+)*[/\\](?=[^/\\\s])|{folder}", "", value)


def _progress(check: Callable[[], None], on_step: OnStep) -> Callable[[VideoProgress], None]:
    """Returns a callback that reports progress and remaining time, and raises if the visitor stopped or left.

    Frames are written between the steps of the sampling; they are reported once it has ended.
    """
    begun: dict[str, tuple[float, int]] = {}
    sampled = False

    def on_progress(progress: VideoProgress) -> None:
        nonlocal sampled
        check()
        if progress.stage == "sampling":
            sampled = progress.done == progress.total
        elif not sampled:
            return
        now = time.monotonic()
        # Seconds per step are known from the second step on: the first call starts the clock.
        first, before = begun.setdefault(progress.stage, (now, progress.done))
        done = progress.done - before
        left = f", about {_duration((now - first) / done * (progress.total - progress.done))} left" if done else ""
        what = {"sampling": "Sampling, step", "writing": "Writing, frame"}[progress.stage]
        on_step(progress.done / progress.total, f"{what} {progress.done} of {progress.total}{left}")

    return on_progress


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
