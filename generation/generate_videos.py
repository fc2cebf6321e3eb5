"""Implements ``generate.py``: generates cases with one loaded model, skips finished ones and reports failures."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from configs.generation import GenerateConfig
from configs.rules import parse_part
from encoders.landmarks.face_landmarker import FaceLandmarkerError
from encoders.protocols import FPS
from encoders.weight_files import WeightsError
from generation.batch import VideoCase, cases_of
from generation.examples import ExampleSpeaker, with_example
from generation.model_files import ModelFiles
from generation.pipeline import EmotiveTalkPipeline
from generation.record import difference, fingerprint, require_writable_video
from generation.streams import LiveStream, opened_stream
from lightning_modules.ethd.sampler import OnProgress, VideoProgress
from runtime.console import new_console
from runtime.errors import UserError
from runtime.locks import lock_of, locked
from runtime.progress import Bars

SOME_FAILED = 3
ETA_OVER = 3600.0  # seconds of history for the remaining-time estimate; a step of a window may take a minute
# Errors that concern one case. Any other error would occur in every case.
CASE_ERRORS = (UserError, OSError)


def generate_videos(config: GenerateConfig) -> int:
    """Generates the videos of a configuration.

    Returns:
        Exit status: 0, or 3 if some videos of a batch failed.

    Raises:
        ConfigError: If the CSV file or a combination of settings is invalid.
        GenerationError, MediaError, ...: If a single video cannot be generated; see ``EmotiveTalkPipeline.generate``.
        CheckpointError, WeightsError, EncoderError: If the networks cannot be loaded.
    """
    console = new_console(stderr=True)
    if config.ethd is None:
        config, speaker = with_example(config)
        status = generate_videos(config)
        console.print(_what_it_is(config, speaker), soft_wrap=True)
        return status
    cases = cases_of(config)
    networks = config.ethd, config.vaid, config.emotion.run
    own = config.landmarks, config.audio_model, config.codec_model
    models = ModelFiles(*networks, config.device, config.face, *own, codec_device=config.decode_device)
    if config.batch is None:
        with _only(cases[0]):
            models.check(cases[0])
            with opened_stream(config.stream, config.stream_format, console) as stream:
                pipeline = _load(models, console)
                with Bars(console, transient=True, speed_estimate_period=ETA_OVER) as bars:
                    _make(pipeline, cases[0], bars, console, stream)
        return 0
    folder = Path(config.output or "")
    index, parts = parse_part(config.part)
    what = f"output={folder}" + (f" part={config.part}" if parts > 1 else "")
    with locked(folder / f".part-{index + 1}-of-{parts}.lock", what, "wait for it, or choose another folder"):
        waiting = _unfinished(cases, models, console)
        possible = _possible(waiting, models, console)
        failed = len(waiting) - len(possible)
        if possible:
            failed += _make_all(_load(models, console), possible, console)
    made = len(waiting) - failed
    console.print(f"{made} generated, {len(cases) - len(waiting)} already there, {failed} failed")
    return SOME_FAILED if failed else 0


def _what_it_is(config: GenerateConfig, speaker: ExampleSpeaker) -> str:
    """What the video of an example shows, and what to type next."""
    asked = f", asked to look {config.emotion.label}" if config.emotion.label else ""
    other = "sad" if config.emotion.label == "angry" else "angry"
    return (
        f"{escape(str(config.output))} shows {speaker.name}, a synthetic speaker whom the small model never saw in "
        f"training{asked}. It has 64 x 64 pixels and sound.\n"
        f"Next: python generate.py emotion.label={other} output={other}.mp4   or   python app.py   or   README.md"
    )


def _only(case: VideoCase) -> AbstractContextManager[None]:
    """Lock of a video that can be written."""
    require_writable_video(case.output)
    return locked(lock_of(case.output), f"output={case.output}", "wait for it, or choose another output")


def _load(models: ModelFiles, console: Console) -> EmotiveTalkPipeline:
    start = time.perf_counter()
    pipeline = models.load()
    exported = pipeline.exported
    source = f"{exported.path} ({exported.step} training steps, sha256 {exported.sha256[:12]}) on {pipeline.device}"
    console.print(f"ethd  {escape(source)}, loaded in {time.perf_counter() - start:.0f} s", soft_wrap=True)
    return pipeline


def _unfinished(cases: Sequence[VideoCase], models: ModelFiles, console: Console) -> list[VideoCase]:
    """Returns the cases whose video is missing or was generated from other inputs, settings or weights."""
    weights = models.hashes()
    waiting = []
    for case in cases:
        try:
            made = case.output.exists()
            why = difference(case, fingerprint(case, weights, models.face, models.landmarks)) if made else ""
        except (OSError, ValueError):  # ValueError: a name with a NUL
            why = ""  # reported when the case is generated
        if why is None:
            console.print(f"[dim]already there[/] {escape(str(case.output))}", soft_wrap=True)
            continue
        if why:
            console.print(f"[yellow]generated again[/] {escape(str(case.output))}: {why}", soft_wrap=True)
        waiting.append(case)
    return waiting


def _possible(cases: Sequence[VideoCase], models: ModelFiles, console: Console) -> list[VideoCase]:
    """Returns the cases whose files and settings can be used, and reports the others."""
    possible = []
    with Bars(console, transient=True) as bars:
        task = bars.add_task("looking at files", total=len(cases))
        for case in cases:
            try:
                models.check(case)
                possible.append(case)
            except WeightsError:  # of the network, in every case
                raise
            except CASE_ERRORS as error:
                _report(case, str(error), console)
            bars.advance(task)
    return possible


def _report(case: VideoCase, message: str, console: Console) -> None:
    console.print(f"[red]failed[/] {escape(f'{case.output}: {message}')}", soft_wrap=True)


def _make_all(pipeline: EmotiveTalkPipeline, cases: Sequence[VideoCase], console: Console) -> int:
    """Generates one video after the other and returns the number of failures."""
    failed = 0
    with Bars(console, transient=True, speed_estimate_period=ETA_OVER) as bars:
        whole = bars.add_task("videos", total=len(cases))
        for case in cases:
            try:
                with _only(case):
                    _make(pipeline, case, bars, console)
            except (WeightsError, FaceLandmarkerError):  # would fail every case
                raise
            except Exception as error:
                failed += 1
                known = isinstance(error, CASE_ERRORS)
                _report(case, str(error) if known else _unexpected(error), console)
            bars.advance(whole)
    return failed


def _unexpected(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(place.filename)}:{place.lineno}"
    return f"{type(error).__name__}: {error} ({where}); unexpected error, please report it"


def _make(
    pipeline: EmotiveTalkPipeline, case: VideoCase, bars: Bars, console: Console, stream: LiveStream | None = None
) -> None:
    start = time.perf_counter()
    with _shown_progress(bars, case.output.name) as on_progress:
        made = pipeline.generate(case, on_progress, stream)
    for note in made.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    spent = time.perf_counter() - start
    seconds = made.frames / FPS
    console.print(
        f"[green]wrote[/] {escape(str(made.path))}  {made.frames} frames, {seconds:.2f} s, {made.size[0]}x"
        f"{made.size[1]}, in {spent:.0f} s ({spent / seconds:.1f} s per second of video)",
        soft_wrap=True,
    )


@contextmanager
def _shown_progress(bars: Bars, name: str) -> Iterator[OnProgress]:
    """Shows two bars for one video: sampling (windows x steps) and writing (frames)."""
    tasks = {stage: bars.add_task(f"{stage} {escape(name)}", total=None) for stage in ("sampling", "writing")}

    def on_progress(done: VideoProgress) -> None:
        bars.update(tasks[done.stage], completed=done.done, total=done.total)

    try:
        yield on_progress
    finally:
        for task in tasks.values():
            bars.remove_task(task)
