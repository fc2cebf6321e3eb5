"""Builds the rating page (anonymous clips, orders, attention checks) and the key, which raters must not see."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmark.user_study.design import LEVELS, QUESTIONS, Trial, make_trials, orders
from evaluation.pairs import EvaluationError, find_videos
from media import MediaError, VideoWriter, probe
from media.source import identify, opened
from runtime.errors import UserError
from runtime.files import sha256_of, whole_file, write_whole

KEY_SCHEMA = "emotivetalk.user_study_key/1"
ANSWERS_SCHEMA = "user_study.answers/1"  # must not name a system, because raters see it
GROUND_TRUTH = "ground_truth"
RATERS = 26
CHECK_SIZE = 512
CHECK_SECONDS = 3
PAGE = "page"


def build_study(
    systems: Mapping[str, Path],
    output: Path,
    samples: int = 10,
    raters: int = RATERS,
    checks: int = 3,
    allowed_failures: int = 1,
    seed: int = 0,
    embed: bool = False,
) -> Path:
    """Writes ``page/index.html`` with its clips, and ``key.json``, which raters must not see.

    Args:
        systems: Name -> folder of videos, including ``ground_truth``. Clips are paired by name, as in evaluate.py.
        output: Folder of the study; must be empty or not exist.
        samples: Number of clips of each system, spread evenly over those that all systems have.
        raters: Number of orders.
        checks: Attention checks per rater.
        allowed_failures: Number of failed checks above which a rater is excluded.
        seed: Seed of names, orders and checks.
        embed: Whether to put the clips into the page: a single file, which must load completely.

    Returns:
        Path of the page.

    Raises:
        UserError: If systems lack clips, browsers cannot play a clip, or the output cannot be written.
    """
    _check_numbers(systems, output, samples, raters, checks, allowed_failures)
    videos, chosen = _choose(systems, samples)
    trials = make_trials(sorted(systems), chosen, checks, seed)
    try:
        with whole_file(output) as partial:
            clips = partial / "clips" if embed else partial / PAGE / "clips"
            clips.mkdir(parents=True)
            for trial in trials:
                if trial.demanded is not None:
                    _write_check(clips / f"{trial.name}.mp4", trial.demanded)
                else:
                    _copy(videos[str(trial.system)][str(trial.sample)], clips / f"{trial.name}.mp4")
            plan = orders(trials, raters, seed)
            hashes = {trial.name: sha256_of(clips / f"{trial.name}.mp4") for trial in trials}
            study = hashlib.sha256(json.dumps([hashes, plan, list(QUESTIONS)], sort_keys=True).encode()).hexdigest()
            (partial / PAGE).mkdir(exist_ok=True)
            write_whole(partial / PAGE / "index.html", _page(study, plan, clips if embed else None, trials))
            if embed:
                shutil.rmtree(clips)
            key = {
                "schema": KEY_SCHEMA,
                "study": study,
                "seed": seed,
                "raters": raters,
                "allowed_failures": allowed_failures,
                "trials": [asdict(trial) for trial in trials],
                "clips": hashes,
                "orders": plan,
            }
            write_whole(partial / "key.json", json.dumps(key, indent=1, ensure_ascii=False) + "\n")
    except (OSError, MediaError) as error:
        raise UserError(f"output={output}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output / PAGE / "index.html"


def _check_numbers(
    systems: Mapping[str, Path], output: Path, samples: int, raters: int, checks: int, allowed_failures: int
) -> None:
    if GROUND_TRUTH not in systems or len(systems) < 2:
        raise UserError(f"expected system={GROUND_TRUTH}=DIR,NAME=DIR: the real videos and at least one system")
    for name, value, least in (("samples", samples, 1), ("raters", raters, 1), ("checks", checks, 0)):
        if value < least:
            raise UserError(f"{name}={value}: expected at least {least}")
    if not 0 <= allowed_failures <= max(0, checks - 1):
        raise UserError(f"allowed_failures={allowed_failures}: expected 0 to {max(0, checks - 1)}, below checks")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"output={output}: already exists; a running study must not change, choose a new folder")


def _choose(systems: Mapping[str, Path], samples: int) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Returns each system's clips by name, and an even selection of the names that all systems have."""
    videos: dict[str, dict[str, Path]] = {}
    for system, folder in systems.items():
        try:
            found = find_videos(folder)
        except EvaluationError as error:
            raise UserError(f"{system}: {error}") from error
        videos[system] = {name: paths[0] for name, paths in found.items() if len(paths) == 1}
    shared = sorted(set.intersection(*(set(found) for found in videos.values())))
    if len(shared) < samples:
        counts = ", ".join(f"{system} {len(found)}" for system, found in videos.items())
        raise UserError(f"samples={samples}: only {len(shared)} clips exist for every system ({counts})")
    places = np.linspace(0, len(shared) - 1, samples).round().astype(int)
    return videos, [shared[place] for place in places]


def _copy(source: Path, target: Path) -> None:
    """Copies picture and sound streams without metadata, which may name the system.

    Raises:
        UserError: If browsers cannot play the clip.
        MediaError: If it cannot be read.
    """
    info = probe(source)
    if info.video_codec != "h264" or not info.has_sound:
        has = f"{info.video_codec} pictures and {'sound' if info.has_sound else 'no sound'}"
        raise UserError(f"{source}: has {has}; browsers need H.264 with sound, as benchmark.run_system writes it")
    try:
        options = {"movflags": "+faststart"}
        with opened(identify(source)[0]) as container, av.open(str(target), "w", options=options) as made:
            streams = [container.streams.video[0], container.streams.audio[0]]
            copies = {stream.index: made.add_stream_from_template(stream) for stream in streams}
            for copy in copies.values():
                copy.metadata.clear()
            for packet in container.demux(streams):
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    made.mux(packet)
    except av.FFmpegError as error:
        raise MediaError(f"{source}: cannot be copied ({error.strerror or error})") from error


def _write_check(target: Path, demanded: int) -> None:
    """Writes a video that shows the answer to give to all questions."""
    picture = Image.new("RGB", (CHECK_SIZE, CHECK_SIZE), (32, 34, 40))
    pen = ImageDraw.Draw(picture)
    for text, size, height in (
        ("Attention check", 40, 110),
        ("Answer every question with", 32, 190),
        (str(demanded), 150, 320),
    ):
        pen.text((CHECK_SIZE / 2, height), text, (250, 250, 250), ImageFont.load_default(size), anchor="mm")
    frame = np.asarray(picture)
    silence = np.zeros(16_000 * CHECK_SECONDS, np.float32)
    with VideoWriter(target, size=(CHECK_SIZE, CHECK_SIZE), sound=silence) as writer:
        for _ in range(25 * CHECK_SECONDS):
            writer.write(frame)


def _page(study: str, plan: Sequence[Sequence[str]], clips: Path | None, trials: Sequence[Trial]) -> str:
    content: dict[str, Any] = {
        "schema": ANSWERS_SCHEMA,
        "study": study,
        "orders": plan,
        "levels": LEVELS,
        "questions": [{"name": name, "text": text} for name, (_, text) in QUESTIONS.items()],
        "clips": {trial.name: _address(trial.name, clips) for trial in trials},
    }
    template = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")
    return template.replace("/*STUDY*/", json.dumps(content, separators=(",", ":")))


def _address(name: str, clips: Path | None) -> str:
    if clips is None:
        return f"clips/{name}.mp4"
    return "data:video/mp4;base64," + base64.b64encode((clips / f"{name}.mp4").read_bytes()).decode()
