"""Writes clips of synthetic speakers with landmarks and factors, in MEAD's or HDTF's layout.

    mead   M100/video/front/angry/level_1/001.mp4   silent; sound in M100/audio/angry/level_1/001.m4a
    hdtf   WDA_SynthAbel_000.mp4                    with sound

Each ``X.mp4`` comes with ``X.csv`` (68 landmarks per frame in OpenFace's format) and ``X.factors.npz`` (``values``
(F, K) float32 and ``names``).
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import resample_poly

from encoders.protocols import FPS, SAMPLE_RATE
from media.writer import VideoWriter
from preparation.interrupts import block_sigint
from preparation.synthetic.emotions import EMOTIONS
from preparation.synthetic.synthetic_clip import SyntheticClip, render_clip
from preparation.synthetic.world import identity
from runtime.ending import end_with_parent
from runtime.files import remove_partials, whole_file, write_whole
from runtime.json_text import parse_json
from runtime.ownership import refuse
from runtime.platforms import usable_cores

LAYOUTS = ("mead", "hdtf")
MANIFEST = "synthetic.json"
WORLD_VERSION = 2  # increased whenever the clips of a seed change
MEAD_SAMPLE_RATE = 48_000


@dataclass(frozen=True)
class ClipPlan:
    """One clip to write: speaker, emotion, sentence, and the file paths relative to the dataset's folder."""

    identity: int
    emotion: str
    level: int
    sentence_seed: int
    video: Path
    audio: Path | None


def plan_clips(layout: str, identities: int, clips_per_identity: int, seed: int) -> list[ClipPlan]:
    """Lists the clips of a dataset.

    Each speaker shows all emotions once before one is repeated at another level. Speakers start with different
    emotions, so that few clips cover many. The sentence of a clip depends only on the clip's name and the seed.

    Args:
        layout: ``mead`` or ``hdtf``.
        identities: Number of speakers.
        clips_per_identity: Number of clips of each speaker.
        seed: Seed of the sentences.

    Raises:
        ValueError: If the layout is unknown or a count is below 1.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout={layout!r}: choose one of {', '.join(LAYOUTS)}")
    if identities < 1 or clips_per_identity < 1:
        raise ValueError(f"identities={identities}, clips_per_identity={clips_per_identity}: both must be at least 1")
    plans = []
    for index in range(identities):
        person, taken = identity(index), Counter[tuple[str, int]]()
        for place in range(clips_per_identity):
            which = (place + index) % len(EMOTIONS)
            emotion = EMOTIONS[which]
            level = 1 if emotion == "neutral" else 1 + (place // len(EMOTIONS) + which + index) % 3
            taken[emotion, level] += 1
            number = taken[emotion, level]
            if layout == "mead":
                tail = Path(emotion, f"level_{level}", f"{number:03d}")
                video = Path(person.name, "video", "front", tail.with_suffix(".mp4"))
                audio: Path | None = Path(person.name, "audio", tail.with_suffix(".m4a"))
            else:
                video, audio = Path(f"{person.hdtf_name}_{place:03d}.mp4"), None
            name = f"{seed}/{person.name}/{emotion}/{level}/{number}"
            sentence = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
            plans.append(ClipPlan(index, emotion, level, sentence, video, audio))
    return plans


def write_dataset(
    folder: str | Path,
    *,
    layout: str,
    identities: int,
    clips_per_identity: int,
    seconds: float,
    size: int,
    seed: int,
    workers: int = 1,
    progress: Callable[[], None] | None = None,
) -> list[Path]:
    """Writes the clips of a dataset that do not exist yet.

    Equal arguments give equal bytes on the same machine. The video of a clip is renamed to its final name last, so a
    clip with a video is complete, and an interrupted run can be continued.

    Args:
        folder: Folder of the dataset; created if missing.
        layout: ``mead`` or ``hdtf``.
        identities: Number of speakers, counted from index 0.
        clips_per_identity: Number of clips of each speaker; 24 cover every emotion at every level.
        seconds: Length of every clip, seconds.
        size: Side of the pictures, pixels.
        seed: Seed of the sentences; it does not change the speakers.
        workers: Number of processes; 0 for one per core.
        progress: Called once for each existing and each written clip.

    Returns:
        Paths of the videos, in a fixed order.

    Raises:
        ValueError: If an argument is out of range, or the folder has a dataset of another seed, size or length.
        OSError: If the folder cannot be written.
    """
    folder = Path(folder)
    plans = plan_clips(layout, identities, clips_per_identity, seed)
    _claim(folder, {"layout": layout, "seconds": seconds, "size": size, "seed": seed, "version": WORLD_VERSION})
    todo = [plan for plan in plans if not _complete(folder, plan)]
    advance = progress or (lambda: None)
    for _ in range(len(plans) - len(todo)):
        advance()
    workers = workers or usable_cores()
    if workers > 1 and len(todo) > 1:
        # Spawned, not forked: the caller may have threads, and a fork would copy their locks in any state.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(todo)), context, end_with_parent) as pool:
            with block_sigint():
                futures = [pool.submit(_write_clip, folder, plan, seconds, size) for plan in todo]
            try:
                for future in as_completed(futures):
                    future.result()
                    advance()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    else:
        for plan in todo:
            _write_clip(folder, plan, seconds, size)
            advance()
    return [folder / plan.video for plan in plans]


def landmarks_path(video: Path) -> Path:
    """Returns the path of a video's landmark file."""
    return video.with_suffix(".csv")


def factors_path(video: Path) -> Path:
    """Returns the path of a video's file of true factors."""
    return video.with_suffix(".factors.npz")


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Writes the settings of the folder's clips to the manifest; raises if the folder has clips of other settings."""
    manifest = folder / MANIFEST
    text = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if manifest.exists():
        try:
            found = parse_json(manifest.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{manifest}: not valid JSON ({error}); choose an empty folder") from error
        if not isinstance(found, dict):
            raise ValueError(f"{manifest}: expected settings, found {type(found).__name__}; choose an empty folder")
        wrong = [
            f"{key} is {found.get(key)!r}, expected {value!r}"
            for key, value in settings.items()
            if found.get(key) != value
        ]
        if wrong:
            raise ValueError(
                f"{folder}: has clips of other settings ({'; '.join(wrong)}); choose another folder or delete it"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    remove_partials(folder)
    if other := next(iter(sorted(folder.iterdir())), None):  # the clips could replace it
        refuse(other, f"dataset=synthetic source={folder}")
    write_whole(manifest, text)


def _complete(folder: Path, plan: ClipPlan) -> bool:
    video = folder / plan.video
    sidecars = [landmarks_path(video), factors_path(video)] + ([folder / plan.audio] if plan.audio else [])
    return video.exists() and all(path.exists() for path in sidecars)


def _write_clip(folder: Path, plan: ClipPlan, seconds: float, size: int) -> None:
    clip = render_clip(identity(plan.identity), plan.emotion, plan.level, plan.sentence_seed, seconds, size)
    if plan.audio:
        audio = folder / plan.audio
        audio.parent.mkdir(parents=True, exist_ok=True)
        _save_sound(audio, clip.sound)
    write_speaker(folder / plan.video, clip, None if plan.audio else clip.sound)


def write_speaker(
    path: Path, clip: SyntheticClip, sound: np.ndarray | None, frames: Iterable[np.ndarray] | None = None
) -> None:
    """Writes a clip's factors, its landmarks and, last, its video.

    Args:
        path: Path of the video; its folder is created.
        clip: Clip with the factors and landmarks.
        sound: (S,) float32 sound at 16 kHz, None for a silent video.
        frames: (S, S, 3) uint8 RGB frames; None for those of the clip.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(factors_path(path)) as partial, partial.open("wb") as file:
        np.savez(file, values=clip.factors, names=np.array(clip.factor_names))
    write_whole(landmarks_path(path), openface_csv(clip))
    with VideoWriter(path, size=(clip.size, clip.size), fps=FPS, sound=sound, sound_rate=SAMPLE_RATE) as writer:
        for frame in clip.frames() if frames is None else frames:
            writer.write(frame)


def openface_csv(clip: SyntheticClip) -> str:
    """Formats landmarks like OpenFace's FeatureExtraction, including its space after each comma.

    Coordinates are in pixels, with pixel centres at half-integers.
    """
    head = ["frame", "face_id", "timestamp", "confidence", "success"]
    head += [f"{axis}_{number}" for axis in "xy" for number in range(68)]
    lines = [", ".join(head)]
    for frame, points in enumerate(clip.landmarks):
        values = ", ".join(f"{value:.2f}" for value in points.T.ravel())
        lines.append(f"{frame + 1}, 0, {frame / FPS:.3f}, 0.98, 1, {values}")
    return "\n".join(lines) + "\n"


def _save_sound(path: Path, sound: np.ndarray) -> None:
    """Writes (S,) sound at 16 kHz as AAC at MEAD's 48 kHz."""
    samples = resample_poly(sound.astype(np.float64), MEAD_SAMPLE_RATE // SAMPLE_RATE, 1).astype(np.float32)
    options = {"fflags": "+bitexact"}
    with whole_file(path) as partial, av.open(str(partial), "w", format="ipod", options=options) as container:
        stream = container.add_stream("aac", rate=MEAD_SAMPLE_RATE, layout="mono")
        stream.bit_rate = 96_000
        stream.options = {"flags": "+bitexact"}
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = MEAD_SAMPLE_RATE
        # Without a time base the file does not record the encoder's priming samples, and the sound is 21 ms late.
        frame.pts, frame.time_base = 0, Fraction(1, MEAD_SAMPLE_RATE)
        fifo.write(frame)
        size = stream.codec_context.frame_size or 1024
        while piece := fifo.read(size, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))
