"""What ``benchmark.run_system`` recorded of a video: the offset of its first frame, and its encoding.

``OUTPUT/videos/CLIP.mp4`` and ``OUTPUT/reference/CLIP.mp4`` have the record ``OUTPUT/records/CLIP.json``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.json_text import read_json

SCHEMA = "emotivetalk.system_clip/1"
FPS = 25  # of the clips and of their offsets
FOLDERS = {"videos": "video", "reference": "reference"}  # folder -> entry of the record
ENCODING = "H.264 crf 8 4:2:0"  # of clips whose record does not name it; all of them were encoded like this


@dataclass(frozen=True)
class ClipRecord:
    """Record of one video.

    Attributes:
        offset: Frame of the real video that belongs to frame 0, at 25 fps.
        encoding: How the video was encoded again for comparison.
    """

    offset: int
    encoding: str


def record_of(video: Path, sha256: str) -> ClipRecord | None:
    """Returns the record of a video; None if there is none, or if it describes another content.

    Args:
        video: A video, at any depth below ``videos`` or ``reference``.
        sha256: Hash of the video's content.
    """
    video = video.absolute()
    for folder in video.parents:
        records = folder.parent / "records"
        if folder.name in FOLDERS and records.is_dir():
            path = records / video.relative_to(folder).with_suffix(".json")
            return _read(path, FOLDERS[folder.name], sha256)
    return None


def _read(path: Path, side: str, sha256: str) -> ClipRecord | None:
    try:
        content: Any = read_json(path)
        if content["schema"] != SCHEMA or (entry := content["record"][side])["sha256"] != sha256:
            return None
        return ClipRecord(int(entry["offset"]), str(entry.get("encoding", ENCODING)))
    except (OSError, ValueError, KeyError, TypeError):
        return None
