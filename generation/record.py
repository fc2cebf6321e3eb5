"""The record of a video, ``.json``: every file, setting, seed and weight it was generated with.

A video is finished if it exists and its record names the same inputs, settings and weights.
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
from runtime.files import require_writable, sha256_of, write_whole
from runtime.json_text import parse_json

SCHEMA = "emotivetalk.generation/1"
DECIDING = ("inputs", "settings", "weights")  # the parts of a record that a video depends on


def record_path(video: Path) -> Path:
    """Returns the path of a video's record."""
    return video.with_suffix(".json")


def require_writable_video(video: Path) -> None:
    """Checks as ``require_writable`` that a video and its record, whose name is longer by a letter, can be written."""
    for file in (video, record_path(video)):
        require_writable(file, f"output={video}")


def fingerprint(case: VideoCase, weights: Mapping[str, str], face: FaceConfig, landmarks: str | None) -> dict[str, Any]:
    """Returns what the video of a case depends on; known before it is generated.

    Args:
        case: Video case; its files are read for their hashes.
        weights: name -> SHA-256.
        face: Crop and limits of faces.
        landmarks: Landmark detector that replaces the training's.

    Raises:
        OSError: If a file cannot be read.
    """
    files = case.inputs()
    inputs = {key: {"file": str(file), "sha256": sha256_of(file)} for key, file in files.items()}
    settings = {**case.settings(), "landmarks": landmarks, "face": asdict(face)}
    return {"inputs": inputs, "settings": settings, "weights": dict(weights)}


def difference(case: VideoCase, wanted: Mapping[str, Any]) -> str | None:
    """Returns why a video is not finished: None if it is finished, ``""`` if there is no video."""
    if not case.output.exists():
        return ""
    try:
        found = parse_json(record_path(case.output).read_text(encoding="utf-8"))
        then, now = ({part: _comparable(record[part]) for part in DECIDING} for record in (found, wanted))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "has no readable record (.json)"
    if changed := [part for part in DECIDING if then[part] != now[part]]:
        return f"was made with other {' and '.join(changed)}"
    return None


def _comparable(part: Mapping[str, Any]) -> Any:
    """Returns a part as plain JSON values. Files are compared by content, not by path."""
    plain = json.loads(json.dumps(part))
    return {
        key: {name: entry for name, entry in value.items() if name != "file"} if isinstance(value, dict) else value
        for key, value in plain.items()
    }


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Returns the Python and torch versions, the device and the precision."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": f"{device.type}: {name}",
        "precision": str(dtype).removeprefix("torch."),
    }


def write_record(video: Path, record: Mapping[str, Any]) -> None:
    """Writes the record of a video completely or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    path = record_path(video)
    text = json.dumps({"schema": SCHEMA, **record}, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, text)
