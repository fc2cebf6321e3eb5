"""Sync scores of single videos, from the cache if possible: decoding, face tracks, networks.

Videos are neither trimmed nor aligned to their counterparts; only a panel is cropped.
"""

from __future__ import annotations

import shutil
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from configs.evaluation import SyncConfig
from evaluation.aligned_clips import Side, cut_panel
from evaluation.cache import Arrays, FeatureStore
from evaluation.extractor import UnusableVideo
from evaluation.landmarks import SidecarLandmarks
from evaluation.networks import NotComputed, load, load_proxy
from evaluation.sync_faces import faces_for
from media import FrameReader, MediaError, VideoWriter, read_sound
from metrics.functional.sync import SyncScores, audio_windows, sync_distances, sync_scores, sync_windows
from metrics.networks.syncnet import WINDOW_FRAMES, SyncNet
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
Span = tuple[float, float]  # seconds from the start of the video


@dataclass(frozen=True)
class _Decoded:
    """Frames and sound of a video, in mode ``fast``."""

    frames: list[np.ndarray]
    sound: np.ndarray


Decoder = Callable[[], _Decoded | ReferenceSteps]


class SyncedVideos:
    """Scores videos with SyncNet.

    Attributes:
        sources: SyncNet and the face detector.
        protocol: All settings that the scores depend on.

    Raises:
        NotComputed: If a network, ffmpeg or OpenCV is missing.
    """

    def __init__(self, config: SyncConfig, device: torch.device) -> None:
        self.config = config
        syncnet = (
            load_proxy("sync", "sync", config.weights, device, SyncNet)
            if config.network == "proxy"
            else load("syncnet", config.weights, "SyncNet", SyncNet, device)
        )
        self.loaded = syncnet
        self.faces, detector = faces_for(config, device)
        self.sources = (syncnet.source, *detector)
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
            network = self.loaded.network
            lip = network.lip(longest.frames[: windows + WINDOW_FRAMES - 1])
            moved = shifted_scores(lip, longest.samples, network, SHIFT)
            return _arrays(shifted_scores(lip, longest.samples, network, 0), moved.offset)
        except (MediaError, UnusableVideo, NotComputed):
            raise
        except (UserError, StepError, ValueError) as error:  # not RuntimeError: a full GPU is no fault of the video
            raise UnusableVideo(str(error)) from error

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
