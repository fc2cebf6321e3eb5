"""Sync-C and Sync-D of generated and real videos, with a self-check of the networks.

Sync is computed on single videos, so they are neither trimmed nor aligned to their counterparts; only a panel is
cropped.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.evaluation import SyncConfig
from evaluation.aligned_clips import Clips, Side, cut_panel
from evaluation.cache import Arrays, FeatureStore
from evaluation.features import UnusableVideo
from evaluation.landmarks import SidecarLandmarks
from evaluation.networks import NotComputed, load, load_proxy
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Column, ConfidenceInterval, Value
from evaluation.sync_faces import faces_for
from media import FrameReader, MediaError, VideoWriter, read_sound
from metrics.functional.bootstrap import Z
from metrics.functional.sync import SyncScores, audio_windows, sync_distances, sync_scores, sync_windows
from metrics.networks.syncnet import WINDOW_FRAMES, SyncNet
from metrics.sync import SyncConfidenceDistance
from metrics.sync_pipeline import (
    FPS,
    SAMPLE_RATE,
    FFmpeg,
    ReferenceSteps,
    StepError,
    TrackClip,
    opencv,
    reference_steps,
    tracks_in_memory,
    tracks_of_steps,
)
from runtime.errors import UserError

SHIFT = 3  # frames by which the self-check shifts the sound
CONFIRMED = 0.9  # share of the reference videos in which the shift must be found
Stores = tuple[FeatureStore, FeatureStore]  # caches of the reference and the generated side
Progress = Callable[[int], object]
Span = tuple[float, float]  # seconds from the start of the video
FACTORS = ".factors.npz"  # extension of the true factors, which only synthetic speakers have


@dataclass(frozen=True)
class _Decoded:
    """Frames and sound of a video, in mode ``fast``."""

    frames: list[np.ndarray]
    sound: np.ndarray


Decoder = Callable[[], _Decoded | ReferenceSteps]


class SyncScorer:
    """``Metric`` for Sync-C and Sync-D.

    Attributes:
        sources: SyncNet and the face detector.
        official: Whether networks and mode are official, so that the values are Sync-C and Sync-D.
        protocol: All settings that the values depend on.

    Raises:
        NotComputed: If a network, ffmpeg or OpenCV is missing.
    """

    name = "sync"
    columns = (
        Column("sync_c", "Sync-C", "higher", "sync", low=0.0),
        Column("sync_d", "Sync-D", "lower", "sync", low=0.0),
    )

    def __init__(self, config: SyncConfig, device: torch.device) -> None:
        self.config = config
        syncnet = (
            load_proxy("sync", "sync", config.weights, device, SyncNet)
            if config.network == "proxy"
            else load("syncnet", config.weights, "SyncNet", SyncNet, device)
        )
        self.network = syncnet.network
        self.faces, detector = faces_for(config, device)
        self.sources = (syncnet.source, *detector)
        self.official = all(source.official for source in self.sources) and config.mode == "reference"
        self.ffmpeg = _ffmpeg(config) if config.mode == "reference" else None
        self.protocol: dict[str, object] = {
            "name": "syncnet_python" if self.ffmpeg else "in memory, without syncnet_python's lossy steps",
            "mode": config.mode,
            "min_track": config.min_track,
            "min_face": config.min_face,
            "detector": config.detector,
            "boxes": "brows to chin, as in shards" if config.network == "proxy" else "the detector's",
            "per_video": "the track with most frames",
            "offsets": 15,
            "ffmpeg": self.ffmpeg.version if self.ffmpeg else None,
        }

    def title(self, name: str) -> str:
        """Returns the printed name of a value."""
        if self.config.network == "proxy":
            return f"{name} proxy (small trained network)"
        if self.config.mode == "fast":
            return f"{name} fast (not comparable)"
        return name if self.official else f"{name} proxy (unofficial networks)"

    def key(self, side: Side) -> dict[str, object]:
        """Returns everything that the scores of a video depend on."""
        return {
            "what": "sync",
            "content": side.sha256,
            "panel": side.panel,
            "networks": [source.sha256 for source in self.sources],
            "protocol": self.protocol,
            **(SidecarLandmarks().key(side.path) if self.config.detector == "sidecar" else {}),
        }

    def scores(
        self, sides: Sequence[tuple[Side, FeatureStore]], spans: Sequence[Span] = ()
    ) -> Iterator[Arrays | UnusableVideo | MediaError]:
        """Scores videos in order, from the caches if possible; the next one is decoded while networks score this one.

        Args:
            sides: Sides with their caches.
            spans: Scored part of each video; empty for whole videos.

        Yields:
            Sync-C, Sync-D, offset, number of windows (0 without a track), and the offset with shifted sound; or why a
            video cannot be scored.
        """
        parts: Sequence[Span | None] = spans or [None] * len(sides)
        with tempfile.TemporaryDirectory(prefix="emotivetalk-sync-") as folder, ThreadPoolExecutor(1) as ahead:
            decoders = [
                partial(self._decode, side, span, Path(folder, str(place)))
                for place, ((side, _), span) in enumerate(zip(sides, parts, strict=True))
            ]

            def begin(place: int) -> Decoder:
                """Starts to decode, unless the scores are known; returns the function that waits for the end."""
                (side, store), decode = sides[place], decoders[place]
                return decode if store.has(self._key(side, parts[place])) else ahead.submit(decode).result

            begun = map(begin, range(len(sides)))
            following = next(begun, None)
            for place, ((side, store), span) in enumerate(zip(sides, parts, strict=True)):
                assert following is not None
                decoded, following = following, next(begun, None)
                try:
                    yield store.fetch(self._key(side, span), partial(self._score, side, span, decoded))
                except (UnusableVideo, MediaError) as error:
                    yield error
                shutil.rmtree(Path(folder, str(place)), ignore_errors=True)

    def _key(self, side: Side, span: Span | None) -> dict[str, object]:
        return self.key(side) | ({"span": span} if span else {})

    def _score(self, side: Side, span: Span | None, decoded: Decoder) -> Arrays:
        """Scores one video; see ``scores``."""
        try:
            tracks = self._tracks(side, span, decoded())
            if not tracks:
                return _arrays(SyncScores(0.0, 0.0, 0, 0, np.zeros(0)), 0)
            longest = max(tracks, key=lambda track: len(track.frames))
            windows = sync_windows(len(longest.frames), len(longest.samples))
            lip = self.network.lip(longest.frames[: windows + WINDOW_FRAMES - 1])
            moved = shifted_scores(lip, longest.samples, self.network, SHIFT)
            return _arrays(shifted_scores(lip, longest.samples, self.network, 0), moved.offset)
        except (MediaError, UnusableVideo):
            raise
        except (UserError, StepError, ValueError) as error:  # not RuntimeError: a full GPU is no fault of the video
            raise UnusableVideo(str(error)) from error

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Progress) -> None:
        """Computes and stores the scores of ``own``; see ``Metric``."""
        sides = _sides(own, stores)
        for (side, _), _ in zip(sides, self.scores(sides), strict=True):
            progress(side.frames)

    def values(
        self, clips: Clips, expected: int, stores: Stores, bootstrap: tuple[int, int], progress: Progress
    ) -> tuple[list[Value], list[Missing], ClipValues]:
        """Computes Sync-C and Sync-D of the generated and the reference videos; see ``Metric``.

        Raises:
            NotComputed: If no generated video has a face track.
        """
        missing: list[Missing] = []
        scores: dict[str, dict[str, Arrays]] = {"reference": {}, "generated": {}}
        sides = _sides(clips, stores)
        names = [clip.name for clip in clips for _ in stores]
        for name, (side, _), found in zip(names, sides, self.scores(sides), strict=True):
            if isinstance(found, Exception):
                missing.append(Missing(name, side.name, "sync", str(found)))
            elif int(found["windows"]):
                scores[side.name][name] = found
            else:
                missing.append(Missing(name, side.name, "sync", _no_track(self.config)))
            progress(side.frames)
        generated, real = scores["generated"], scores["reference"]
        if not generated:
            raise NotComputed("no generated video has a face track with sound", missing)
        check = _self_check(real)
        notes = [source.note for source in self.sources if source.note]
        if self.config.mode == "fast":
            notes.append("sync.mode=fast skips syncnet_python's lossy steps: not comparable with published values")
        if not check["passed"]:
            notes.append(
                f"self-check failed: a shift of the sound by {SHIFT} frames was found in {check['found']} of "
                f"{check['videos']} reference videos; these Sync values are uninformative"
            )
        extra: dict[str, object] = {"self_check": check}
        if self.config.network == "proxy":
            real_videos = sum(not clip.reference.path.with_suffix(FACTORS).exists() for clip in clips)
            extra["informative"] = not real_videos and bool(check["passed"])
            if real_videos:
                notes.append(
                    f"uninformative: {real_videos} of {len(clips)} reference videos are not synthetic speakers (no "
                    f"X{FACTORS}), and the proxy of SyncNet was trained on synthetic speakers only"
                )
        values = []
        for column, field in zip(self.columns, ("confidence", "distance"), strict=True):
            name = column.metric
            mean = _mean(self, generated)[name]
            truth = {"value": _mean(self, real)[name] if real else None, "n": len(real), "expected": expected}
            values.append(
                Value(
                    name=name,
                    title=self.title(column.title) + ("" if extra.get("informative", True) else ", uninformative"),
                    value=mean,
                    better=column.better,
                    official=self.official,
                    sources=self.sources,
                    protocol=self.protocol,
                    clips=len(generated),
                    expected=expected,
                    samples={side: sum(int(row["windows"]) for row in rows.values()) for side, rows in scores.items()},
                    unit="windows of five frames",
                    interval=_interval([float(row[field]) for row in generated.values()], mean, bootstrap),
                    warnings=tuple(notes),
                    extra={"ground_truth": truth, **extra},
                )
            )
        per_clip: ClipValues = {
            clip.name: {side: _row(rows[clip.name]) for side, rows in scores.items() if clip.name in rows}
            for clip in clips
        }
        return values, missing, {name: rows for name, rows in per_clip.items() if rows}

    def window(self, clips: Clips, first: int, length: int, stores: Stores) -> dict[str, dict[str, Any]]:
        """Computes Sync-C and Sync-D of the generated videos over ``length`` frames from ``first`` on."""
        scores, reason = [], "no face track"
        begins = [(clip.generated.start + first) / clip.generated.fps for clip in clips]
        spans = [(begin, begin + length / clip.generated.fps) for begin, clip in zip(begins, clips, strict=True)]
        for row in self.scores([(clip.generated, stores[1]) for clip in clips], spans):
            if isinstance(row, Exception):
                reason = str(row)
            elif row["windows"]:
                scores.append((float(row["confidence"]), float(row["distance"])))
        if not scores:
            return {column.metric: {"value": None, "n": 0, "reason": reason} for column in self.columns}
        means = np.mean(scores, axis=0).tolist()
        return {
            column.metric: {"value": mean, "n": len(scores)} for column, mean in zip(self.columns, means, strict=True)
        }

    def _decode(self, side: Side, span: Span | None, work: Path) -> _Decoded | ReferenceSteps:
        """Runs the steps of a video that need no network.

        Args:
            side: Side with the video.
            span: Scored part of the video, or None for the whole video.
            work: Folder of the intermediate files; it is created.

        Raises:
            UnusableVideo: If there is no sound.
            MediaError: If the file cannot be read.
        """
        if not side.info.has_sound:
            raise UnusableVideo("has no sound track, which Sync needs")
        start, end = span or (0.0, None)
        if self.ffmpeg is None:
            reader = FrameReader(side.path, start=start, end=end, fps=FPS)
            frames = [cut_panel(frame, side.panel) for frame in reader]
            sound = (read_sound(side.path, start=start, end=end, rate=SAMPLE_RATE) * 32767).round().astype(np.int16)
            return _Decoded(frames, sound)
        work.mkdir()
        alone = side.panel is not None or span is not None
        video = cut_out(side, span, work, self.ffmpeg) if alone else side.path.absolute()
        return reference_steps(video, work / "steps", self.ffmpeg)

    def _tracks(self, side: Side, span: Span | None, decoded: _Decoded | ReferenceSteps) -> list[TrackClip]:
        limits = self.config.min_track, self.config.min_face
        if isinstance(decoded, _Decoded):
            faces = self.faces(decoded.frames, side.path, span[0] if span else 0.0)
            return tracks_in_memory(decoded.frames, decoded.sound, faces, *limits)
        assert self.ffmpeg is not None
        return tracks_of_steps(decoded, lambda frames: self.faces(frames, side.path, 0.0), self.ffmpeg, *limits)


def _sides(clips: Clips, stores: Stores) -> list[tuple[Side, FeatureStore]]:
    return [pair for clip in clips for pair in zip((clip.reference, clip.generated), stores, strict=True)]


def shifted_scores(lip: torch.Tensor, samples: np.ndarray, network: SyncNet, shift: int) -> SyncScores:
    """Scores lip embeddings against shifted sound; the offset should increase by ``shift``.

    Args:
        lip: (T, D) lip embeddings from the first frame on.
        samples: (S,) int16 sound at 16 kHz from the first frame on.
        network: SyncNet, for the audio embeddings.
        shift: Number of frames at 25 fps that are removed from the start of the sound.

    Raises:
        ValueError: If the remaining sound is shorter than one window.
    """
    samples = samples[shift * SAMPLE_RATE // FPS :]
    windows = sync_windows(len(lip) + WINDOW_FRAMES, len(samples))
    return sync_scores(sync_distances(lip[:windows], network.audio(audio_windows(samples, windows))))


def _ffmpeg(config: SyncConfig) -> FFmpeg:
    try:
        opencv()
        return FFmpeg.find(config.ffmpeg)
    except RuntimeError as error:
        raise NotComputed(str(error)) from error


def cut_out(side: Side, span: Span | None, folder: Path, ffmpeg: FFmpeg) -> Path:
    """Writes a panel and a span of a video with its sound to a new file, without losses beyond 4:2:0.

    Sound that is shorter than the pictures stays so: SyncNet's windows end with it.
    """
    start, end = span or (0.0, None)
    x, y, width, height = side.panel or (0, 0, side.info.width, side.info.height)
    even = (x, y, width - width % 2, height - height % 2)
    pictures, sound, path = (folder / name for name in ("pictures.mp4", "sound.wav", "part.mkv"))
    with VideoWriter(pictures, size=even[2:], fps=FPS, crf=0) as writer:
        for frame in FrameReader(side.path, start=start, end=end, fps=FPS):
            writer.write(np.ascontiguousarray(cut_panel(frame, even)))
    samples = (read_sound(side.path, start=start, end=end, rate=SAMPLE_RATE) * 32767).round().astype(np.int16)
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    ffmpeg("-i", pictures, "-i", sound, "-c", "copy", path)
    return path


def _arrays(scores: SyncScores, shifted: int) -> Arrays:
    fields = ("confidence", "distance", "offset", "windows")
    return {name: np.asarray(getattr(scores, name)) for name in fields} | {"shifted": np.asarray(shifted)}


def _mean(scorer: SyncScorer, rows: dict[str, Arrays]) -> dict[str, float]:
    metric = SyncConfidenceDistance(scorer.network, sync_on_compute=False)  # this process has all scores
    for row in rows.values():
        metric.add(SyncScores(float(row["confidence"]), float(row["distance"]), 0, 1, np.zeros(0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # videos without a track are listed as missing
        return {name: float(value) for name, value in metric.compute().items()}


def _self_check(real: dict[str, Arrays]) -> dict[str, object]:
    found = sum(int(row["shifted"]) - int(row["offset"]) == SHIFT for row in real.values())
    return {
        "shift": SHIFT,
        "found": found,
        "videos": len(real),
        "passed": bool(real) and found >= CONFIRMED * len(real),
    }


def _interval(values: list[float], mean: float, bootstrap: tuple[int, int]) -> ConfidenceInterval | None:
    resamples, seed = bootstrap
    if not resamples or len(values) < 3:
        return None
    rows = np.random.default_rng(seed).integers(0, len(values), (resamples, len(values)))
    error = float(np.asarray(values)[rows].mean(axis=1).std(ddof=1))
    return ConfidenceInterval(mean - Z * error, mean + Z * error, resamples, seed, "clips")


def _row(row: Arrays) -> dict[str, object]:
    return {
        "sync_c": float(row["confidence"]),
        "sync_d": float(row["distance"]),
        "offset": int(row["offset"]),
        "windows": int(row["windows"]),
    }


def _no_track(config: SyncConfig) -> str:
    return (
        f"no face was tracked for more than {config.min_track} frames at more than {config.min_face:g} pixels "
        "(sync.min_track, sync.min_face)"
    )
