"""Landmark distances of mouth and face, and stability of the lips in silence, from MediaPipe's landmarks.

LMD (Chen et al., CVPR 2019, as in EAT's evaluation): landmarks of each frame are moved to their common centre; the mean
distance of corresponding points, in pixels of a picture 256 pixels high; of the 20 mouth points or of all 68. Published
values use dlib's landmarks, so these are not comparable with them.

Lip stability (after THEval, CVPR 2026): mean absolute change of the lip opening between consecutive silent frames,
divided by the distance of the outer eye corners. Silent frames are quieter than the loudest one by more than 40 dB. It
needs no counterpart.

Shapes: F frames, P = 68 landmarks, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from evaluation.aligned_clips import AlignedClip, Clips, Side
from evaluation.cache import Arrays, FeatureStore
from evaluation.extractor import UnusableVideo
from evaluation.frechet_scores import Collectors
from evaluation.landmarks import LandmarkStream, MediaPipeLandmarks
from evaluation.one_pass import Collector, run_alone
from evaluation.paired_scores import PairedMetric, Stores
from evaluation.results import Column
from media import read_sound

MOUTH = slice(48, 68)
INNER_LIPS = (62, 66)
EYE_CORNERS = (36, 45)
HEIGHT = 256  # pixels
SILENCE = 40.0  # decibel below the loudest frame
RATE = 16_000


class MouthDistance(PairedMetric):
    """M-LMD of the 20 mouth points; lower is better."""

    columns = (Column("m_lmd", "M-LMD", "lower", low=0.0),)
    points = MOUTH

    def __init__(self, config: None, device: torch.device) -> None:
        self.landmarks = MediaPipeLandmarks()
        self.sources = self.landmarks.sources
        self.protocol = {
            "name": "landmark distance",
            "landmarks": self.landmarks.name,
            "points": list(range(68))[self.points],
            "centred": "each frame",
            "unit": f"pixels of a picture {HEIGHT} pixels high",
        }

    def collectors(self, clips: Clips) -> Collectors:
        """Returns the collectors of landmarks, which all landmark metrics share."""
        return lambda clip, side: [_Landmarks(self.landmarks, side)]

    def score(self, clip: AlignedClip, stores: Stores) -> tuple[float, int]:
        """Computes the mean distance of one pair; see ``PairedMetric``."""
        real, made = (
            self._scaled(side, store) for side, store in zip((clip.reference, clip.generated), stores, strict=True)
        )
        return landmark_distance(real, made, self.points)

    def _scaled(self, side: Side, store: FeatureStore) -> dict[int, np.ndarray]:
        scale = HEIGHT / (side.panel[3] if side.panel else side.info.height)
        return {frame: points * scale for frame, points in landmarks_of(self.landmarks, side, store).items()}


class FaceDistance(MouthDistance):
    """F-LMD of all 68 points; lower is better."""

    columns = (Column("f_lmd", "F-LMD", "lower", low=0.0),)
    points = slice(0, 68)


class LipStability(MouthDistance):
    """Motion of the lips in silence; lower is better."""

    columns = (Column("lip_stability", "Lip motion in silence", "lower", low=0.0, digits=4),)
    unit = "pairs of silent frames"

    def __init__(self, config: None, device: torch.device) -> None:
        super().__init__(config, device)
        self.protocol = {
            "name": "change of the lip opening in silence",
            "landmarks": self.landmarks.name,
            "silence": f"{SILENCE:g} dB below the loudest frame",
            "unit": "distance of the outer eye corners",
        }

    def score(self, clip: AlignedClip, stores: Stores) -> tuple[float, int]:
        """Computes the motion in the generated video; see ``PairedMetric``."""
        side = clip.generated
        if not side.info.has_sound:
            raise UnusableVideo("has no sound track, which tells where it is silent")
        start = side.start / side.fps
        sound = read_sound(side.path, start=start, end=start + side.frames / side.fps, rate=RATE)
        return lip_motion(landmarks_of(self.landmarks, side, stores[1]), silent_frames(sound, side.frames, side.fps))


def landmark_distance(real: dict[int, np.ndarray], made: dict[int, np.ndarray], points: slice) -> tuple[float, int]:
    """Computes the mean distance of centred landmarks.

    Args:
        real: Frame -> (68, 2) landmarks.
        made: The same of the generated video.
        points: Compared points.

    Returns:
        The distance, and the number of frames with a face on both sides.

    Raises:
        UnusableVideo: If there is no such frame.
    """
    common = sorted(real.keys() & made.keys())
    if not common:
        raise UnusableVideo("no frame has a face on both sides")
    pairs = [(real[frame][points], made[frame][points]) for frame in common]
    apart = [np.linalg.norm((one - one.mean(0)) - (two - two.mean(0)), axis=1).mean() for one, two in pairs]
    return float(np.mean(apart)), len(common)


def lip_motion(faces: dict[int, np.ndarray], silent: np.ndarray) -> tuple[float, int]:
    """Computes the mean change of the relative lip opening between consecutive silent frames.

    Args:
        faces: Frame -> (68, 2) landmarks.
        silent: (F,) bool.

    Returns:
        The change, and the number of pairs of frames.

    Raises:
        UnusableVideo: If there is no such pair.
    """
    opening = {
        frame: float(np.linalg.norm(np.subtract(*points[list(INNER_LIPS)])))
        / float(np.linalg.norm(np.subtract(*points[list(EYE_CORNERS)])))
        for frame, points in faces.items()
        if frame < len(silent) and silent[frame]
    }
    changes = [abs(opening[frame + 1] - opening[frame]) for frame in opening if frame + 1 in opening]
    if not changes:
        raise UnusableVideo("has no two consecutive silent frames with a face")
    return float(np.mean(changes)), len(changes)


def silent_frames(sound: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """Finds (F,) bool silent frames in (S,) sound at 16 kHz; all are silent if the sound has no signal."""
    edges = np.round(np.arange(frames + 1) * RATE / fps).astype(int)
    parts = [sound[begin:end] for begin, end in zip(edges[:-1], edges[1:], strict=True)]
    level = np.array([np.sqrt(np.mean(np.square(part))) if len(part) else 0.0 for part in parts])
    loudest = level.max(initial=0.0)
    return level <= loudest * 10 ** (-SILENCE / 20)


def landmarks_of(source: MediaPipeLandmarks, side: Side, store: FeatureStore) -> dict[int, np.ndarray]:
    """Returns compared frame -> (68, 2) landmarks in pixels, from the cache if possible."""
    collector = _Landmarks(source, side)
    arrays = store.fetch(collector.key, lambda: run_alone(collector, side))
    rows = arrays["features"].reshape(-1, 68, 2)
    return dict(zip((arrays["frames"] - side.start).tolist(), rows, strict=True))


class _Landmarks(Collector):
    """``Collector`` of (N, 136) landmarks of the speaker."""

    def __init__(self, source: MediaPipeLandmarks, side: Side) -> None:
        networks = [one.sha256 for one in source.sources]
        self.key = {"what": "landmarks", "side": side.key, "networks": networks, "landmarks": source.name}
        self.first, self.count = side.start, side.frames
        self._source, self._side = source, side
        self._stream: LandmarkStream | None = None
        self._faces: list[np.ndarray | None] = []

    def add(self, frames: Sequence[np.ndarray]) -> None:
        self._stream = self._stream or self._source.stream(self._side)
        self._faces += self._stream.add(frames)

    def arrays(self) -> Arrays:
        kept = self._stream.kept() if self._stream else np.zeros(0, bool)
        rows = [(k, face) for k, face in enumerate(self._faces) if face is not None and kept[k]]
        features = np.array([face.reshape(-1) for _, face in rows], np.float32).reshape(-1, 136)
        frames = np.array([self.first + k for k, _ in rows], np.int32)
        return {"features": features, "frames": frames, "seen": np.asarray(len(self._faces))}
