"""What a person needs to judge a shot: a strip of its pictures, and time lines of face, jaw and loudness.

A strip is one JSON file in the folder of the scan. It is for ``report.html`` alone; no measure is taken from it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from runtime.files import write_whole
from runtime.json_text import parse_json

PICTURES = 6
HEIGHT = 72  # pixels
QUALITY = 70  # of JPEG
POINTS = 100  # of a time line


def strip_path(folder: Path, key: str) -> Path:
    """Path of the strip of a shot in the folder of a scan; 256 folders, as for the parts."""
    return folder / "strips" / hashlib.sha256(key.encode()).hexdigest()[:2] / f"{key}.json"


def write_strip(path: Path, pictures: list[np.ndarray], lines: dict[str, np.ndarray]) -> None:
    """Writes the strip of a shot.

    Args:
        path: Path of the file.
        pictures: (H, W, 3) uint8 pictures of the shot in order; six of them are shown.
        lines: Name -> (N,) values over the shot, NaN where there is none; at most 100 points are stored.
    """
    content = {"strip": _strip(pictures), **{name: _line(values) for name, values in lines.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content, sort_keys=True) + "\n")


def read_strip(path: Path) -> dict[str, Any]:
    """Reads a strip; empty if there is none or it is damaged, as in scans of earlier versions."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _strip(pictures: list[np.ndarray]) -> str:
    """The pictures side by side as a JPEG in base64; empty without pictures."""
    if not pictures:
        return ""
    places = np.linspace(0, len(pictures) - 1, min(PICTURES, len(pictures))).round().astype(int)
    shown = []
    for picture in (pictures[place] for place in places):
        width = max(1, round(picture.shape[1] * HEIGHT / picture.shape[0]))
        shown.append(np.asarray(Image.fromarray(picture).resize((width, HEIGHT), Image.Resampling.BOX)))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(shown, axis=1)).save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _line(values: np.ndarray) -> list[float | None]:
    """Means of at most 100 equal parts of a line; None where no value is known."""
    parts = np.array_split(np.asarray(values, np.float64), min(POINTS, max(1, len(values))))
    known = [part[np.isfinite(part)] for part in parts]
    return [round(float(part.mean()), 3) if len(part) else None for part in known]
