"""Comparison of this project's steps with the steps of an original repository, on one clip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from media import read_frames
from metrics.functional.fid import folder_moments
from metrics.functional.frechet import distance_between, gaussian
from metrics.networks.inception import InceptionFeatures
from metrics.networks.syncnet import SyncNet
from metrics.sync_pipeline import FFmpeg, opencv_shots, reference_tracks, score_clip
from runtime.errors import UserError

MOST_FRAMES = 20_000
HERE = Path(__file__).parent


class ParityError(UserError):
    """Raised if an original cannot be run; the message has the end of its output."""


@dataclass(frozen=True)
class ComparedStep:
    """One compared step.

    Attributes:
        metric: Name of the original repository.
        step: What is compared.
        original: What the original found.
        ours: What this project found.
        difference: Largest relative difference; 0 for equal whole numbers; infinite if the shapes differ.
        tolerance: Largest difference that counts as equal.
    """

    metric: str
    step: str
    original: str
    ours: str
    difference: float
    tolerance: float

    @property
    def equal(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.difference <= self.tolerance


def compare_pytorch_fid(checkout: Path, clip: Path, weights: Path, work: Path, frames: int = 40) -> list[ComparedStep]:
    """Compares FID of a clip's even and odd frames, written as PNG files.

    Args:
        checkout: Checkout of github.com/mseitzer/pytorch-fid.
        clip: Video with at least four frames.
        weights: ``pt_inception-2015-12-05-6726825d.pth``, for both sides.
        work: Empty folder.
        frames: Number of frames that are used.
    """
    pictures = [frame for _, frame in zip(range(frames), read_frames(clip), strict=False)]
    folders = work / "one", work / "two"
    for place, folder in enumerate(folders):
        folder.mkdir(parents=True)
        for index, picture in enumerate(pictures[place::2]):
            Image.fromarray(picture).save(folder / f"{index:05d}.png")
    words = [str(checkout.absolute()), *map(str, folders), str(weights.absolute())]
    found = run_original("original_pytorch_fid.py", words, work, os.environ)
    network = InceptionFeatures(weights)
    sides = [gaussian(folder_moments(folder, network, network.dimensions)) for folder in folders]
    value = float(distance_between(sides[0], sides[1]))
    means, traces = [side.mean.numpy() for side in sides], [float(side.trace()) for side in sides]
    return [
        _step("pytorch-fid", "mean features", found["means"], means, 1e-3),
        _step("pytorch-fid", "trace of the covariances", found["traces"], traces, 1e-4),
        _step("pytorch-fid", "FID", found["fid"], value, 1e-4),
    ]


def compare_syncnet(
    checkout: Path, clip: Path, weights: Path, faces: Sequence[Sequence[float]], work: Path, min_track: int = 50
) -> list[ComparedStep]:
    """Compares shots, tracks, windows, offset, Sync-C and Sync-D of a clip.

    Args:
        checkout: Checkout of github.com/joonson/syncnet_python.
        clip: Video with sound.
        weights: ``syncnet_v2.model``, for both sides.
        faces: (left, top, right, bottom) of each face, pixels; both sides use them in every frame.
        work: Empty folder.
        min_track: Minimum number of detections of a track (exclusive).
    """
    ffmpeg = FFmpeg.find()
    programs = work / "bin"
    programs.mkdir(parents=True)
    (programs / "ffmpeg").symlink_to(os.path.abspath(ffmpeg.path))
    boxes = work / "boxes.json"
    boxes.write_text(json.dumps([[list(box) for box in faces]] * MOST_FRAMES), encoding="utf-8")
    words = [str(clip.absolute()), str(work / "original"), str(weights.absolute()), str(min_track), str(boxes)]
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    found = run_original("original_syncnet.py", words, checkout, environment)
    ours = work / "ours"
    network = SyncNet(weights)
    tracks = reference_tracks(clip, ours, lambda frames: [np.array(faces, float)] * len(frames), ffmpeg, min_track)
    shots = [list(shot) for shot in opencv_shots(ours / "video.avi")]
    scores = [score_clip(track, network) for track in tracks]
    spans = [[int(track.track.frames[0]), int(track.track.frames[-1])] for track in tracks]
    theirs = found["tracks"]
    return [
        _step("syncnet_python", "shots", found["shots"], shots, 0),
        _step("syncnet_python", "tracks", [[one["first"], one["last"]] for one in theirs], spans, 0),
        _step("syncnet_python", "windows", [one["windows"] for one in theirs], [one.windows for one in scores], 0),
        _step("syncnet_python", "offset", [one["offset"] for one in theirs], [one.offset for one in scores], 0),
        _step(
            "syncnet_python", "Sync-C", [one["confidence"] for one in theirs], [one.confidence for one in scores], 1e-4
        ),
        _step("syncnet_python", "Sync-D", [one["distance"] for one in theirs], [one.distance for one in scores], 1e-5),
    ]


def run_original(script: str, words: Sequence[str], folder: Path, environment: Any) -> dict[str, Any]:
    """Runs one of the scripts of this folder and returns its result.

    Raises:
        ParityError: If the script fails.
    """
    environment = {**environment, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, str(HERE / script), *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode or not lines:
        tail = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ParityError(
            f"{script}: the original ended with status {done.returncode}: {' | '.join(tail)}; install what it imports "
            "into this environment, or check the checkout"
        )
    return dict(json.loads(lines[-1].removeprefix("RESULT ")))


def _step(metric: str, step: str, original: Any, ours: Any, tolerance: float) -> ComparedStep:
    one, two = np.asarray(original, float), np.asarray(ours, float)
    difference = float("inf")
    if one.shape == two.shape:
        scale = float(np.abs(one).max(initial=0.0)) or 1.0
        difference = float(np.abs(one - two).max(initial=0.0)) / scale
    return ComparedStep(metric, step, _shown(one), _shown(two), difference, tolerance)


def _shown(values: np.ndarray) -> str:
    if values.size > 8:
        return f"{values.shape}, mean {values.mean():.7g}"
    return ", ".join(f"{value:.7g}" for value in values.flatten()) or "none"
