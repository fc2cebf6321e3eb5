"""Runs an unmodified checkout of syncnet_python on one video and prints what its steps found, as JSON.

Run as a script inside the checkout, in a process of its own: it replaces functions that newer versions of NumPy, OpenCV
and torch no longer have, and moves nothing to a GPU. It imports nothing of this project.

    python original_syncnet.py VIDEO WORK WEIGHTS MIN_TRACK BOXES.json

BOXES.json holds [left, top, right, bottom] of each face of each frame and replaces the face detector.
"""

from __future__ import annotations

import json
import pickle
import runpy
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import torch


def main(video: str, work: str, weights: str, min_track: str, boxes: str) -> None:
    """Runs run_pipeline.py and run_syncnet.py and prints scenes, tracks and scores."""
    shim()
    faces = iter(json.loads(Path(boxes).read_text(encoding="utf-8")))
    detectors = types.ModuleType("detectors")

    class S3FD:
        def __init__(self, device: str) -> None:
            pass

        def detect_faces(self, image: np.ndarray, conf_th: float, scales: list[float]) -> np.ndarray:
            found: list[list[float]] = next(faces, [])
            return np.array([[*box, 1.0] for box in found]).reshape(-1, 5)

    detectors.S3FD = S3FD  # type: ignore[attr-defined]
    sys.modules["detectors"] = detectors
    common = ["--videofile", video, "--reference", "clip", "--data_dir", work]
    run("run_pipeline.py", [*common, "--min_track", min_track])
    place = Path(work) / "pywork" / "clip"
    scenes = pickle.loads((place / "scene.pckl").read_bytes())
    tracks = pickle.loads((place / "tracks.pckl").read_bytes())
    scores = []
    if tracks:
        sys.path.insert(0, ".")
        from SyncNetInstance import SyncNetInstance  # type: ignore[import-not-found]

        original = SyncNetInstance.evaluate

        def evaluate(self: object, opt: object, videofile: str) -> object:
            offset, confidence, distances = original(self, opt, videofile=videofile)
            means = distances.mean(axis=1 if distances.shape[0] == 31 else 0)
            scores.append([int(offset), float(confidence), float(means.min()), int(distances.size // 31)])
            return offset, confidence, distances

        SyncNetInstance.evaluate = evaluate
        run("run_syncnet.py", [*common, "--initial_model", weights])
    result = {
        "shots": [[start.frame_num, end.frame_num] for start, end in scenes],
        "tracks": [
            {
                "first": int(one["track"]["frame"][0]),
                "last": int(one["track"]["frame"][-1]),
                "offset": score[0],
                "confidence": score[1],
                "distance": score[2],
                "windows": score[3],
            }
            for one, score in zip(tracks, scores, strict=True)
        ],
    }
    print("RESULT " + json.dumps(result))


def run(script: str, arguments: list[str]) -> None:
    """Runs a script of the checkout with a command line."""
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def shim() -> None:
    """Restores what the original expects from older libraries."""
    if not hasattr(np, "int"):
        vars(np)["int"] = int
    split = cv2.split
    cv2.split = lambda *arguments: list(split(*arguments))  # type: ignore[assignment]
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
        torch.nn.Module.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
