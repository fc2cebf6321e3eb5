"""Sync-C and Sync-D of generated and real videos, with a self-check of the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from configs.evaluation import SyncConfig
from evaluation.aligned_clips import Clips, Side
from evaluation.cache import Arrays, FeatureStore
from evaluation.networks import NotComputed
from evaluation.paired_scores import interval_of_mean
from evaluation.pairs import Missing
from evaluation.results import ClipValues, Column, Value
from evaluation.sync_videos import SHIFT, SyncedVideos

CONFIRMED = 0.9  # share of the reference videos in which the shift must be found
Stores = tuple[FeatureStore, FeatureStore]  # caches of the reference and the generated side
Progress = Callable[[int], object]
FACTORS = ".factors.npz"  # extension of the true factors, which only synthetic speakers have


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
        self.videos = SyncedVideos(config, device)
        self.sources, self.protocol = self.videos.sources, self.videos.protocol
        self.official = all(source.official for source in self.sources) and config.mode == "reference"

    def title(self, name: str) -> str:
        """Returns the printed name of a value."""
        if self.config.network == "proxy":
            return f"{name} proxy (small trained network)"
        if self.config.mode == "fast":
            return f"{name} fast (not comparable)"
        return name if self.official else f"{name} proxy (unofficial networks)"

    def prepare(self, clips: Clips, own: Clips, stores: Stores, progress: Progress) -> None:
        """Computes and stores the scores of ``own``; see ``Metric``."""
        sides = _sides(own, stores)
        for (side, _), _ in zip(sides, self.videos.scores(sides), strict=True):
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
        for name, (side, _), found in zip(names, sides, self.videos.scores(sides), strict=True):
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
            mean = _mean(generated, field)
            truth = {"value": _mean(real, field) if real else None, "n": len(real), "expected": expected}
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
                    interval=interval_of_mean(np.array([float(row[field]) for row in generated.values()]), bootstrap),
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
        for row in self.videos.scores([(clip.generated, stores[1]) for clip in clips], spans):
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


def _sides(clips: Clips, stores: Stores) -> list[tuple[Side, FeatureStore]]:
    return [pair for clip in clips for pair in zip((clip.reference, clip.generated), stores, strict=True)]


def _mean(rows: dict[str, Arrays], field: str) -> float:
    return sum(float(row[field]) for row in rows.values()) / len(rows)


def _self_check(real: dict[str, Arrays]) -> dict[str, object]:
    found = sum(int(row["shifted"]) - int(row["offset"]) == SHIFT for row in real.values())
    return {
        "shift": SHIFT,
        "found": found,
        "videos": len(real),
        "passed": bool(real) and found >= CONFIRMED * len(real),
    }


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
