"""The ``.json`` beside a video: every file, setting, seed and weight it was made with.

A video is finished when both are there and the record is of the same files, settings and weights.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from configs.preparation import FaceConfig
from generation.batch import VideoCase
from runtime.files import sha256_of, write_whole

SCHEMA = "emotivetalk.generation/1"
DECIDING = ("inputs", "settings", "weights")  # parts of a record that a video depends on


def record_path(video: Path) -> Path:
    """The file beside a video."""
    return video.with_suffix(".json")


def fingerprint(case: VideoCase, weights: Mapping[str, str], face: FaceConfig, landmarks: str | None) -> dict[str, Any]:
    """What a case's video depends on, known before it is made.

    Args:
        case: the case; its files are read for their hashes.
        weights: name -> sha256.
        face: crop and limits of faces.
        landmarks: the landmark detector in place of the training's.

    Raises:
        OSError: when a file cannot be read.
    """
    files = case.inputs()
    inputs = {key: {"file": str(file), "sha256": sha256_of(file)} for key, file in files.items()}
    settings = {**case.settings(), "landmarks": landmarks, "face": asdict(face)}
    return {"inputs": inputs, "settings": settings, "weights": dict(weights)}


def difference(case: VideoCase, wanted: Mapping[str, Any]) -> str | None:
    """Why a case's video is not finished; None when it is, ``""`` when there is none at all."""
    if not case.output.exists():
        return ""
    try:
        found = json.loads(record_path(case.output).read_text(encoding="utf-8"))
        then, now = ({part: _comparable(record[part]) for part in DECIDING} for record in (found, wanted))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "has no readable record beside it"
    if changed := [part for part in DECIDING if then[part] != now[part]]:
        return f"was made with other {' and '.join(changed)}"
    return None


def _comparable(part: Mapping[str, Any]) -> Any:
    """A part as JSON holds it; files count by their content, wherever they lie."""
    plain = json.loads(json.dumps(part))
    return {
        key: {name: entry for name, entry in value.items() if name != "file"} if isinstance(value, dict) else value
        for key, value in plain.items()
    }


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """What the video was computed on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type}: {name}",
        "precision": str(dtype).removeprefix("torch."),
    }


def write_record(video: Path, record: Mapping[str, Any]) -> None:
    """Writes the record beside its video, whole or not at all.

    Raises:
        OSError: when it cannot be written.
    """
    path = record_path(video)
    text = json.dumps({"schema": SCHEMA, **record}, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, text)
