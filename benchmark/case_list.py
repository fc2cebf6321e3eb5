"""Reads ``cases.csv``: one row for every clip that a system has to generate.

Required columns: ``clip`` (name of the result and of its real video), ``portrait``, ``speech``. Optional columns:
``video`` (real video), ``emotion.video`` (driving video), ``phonemes``, ``style``, ``pose``. Paths are relative to the
folder of the CSV file. Other columns are ignored.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from runtime.errors import UserError

REQUIRED = ("clip", "portrait", "speech")
OPTIONAL = {
    "video": "video",
    "emotion.video": "driving_video",
    "phonemes": "phonemes",
    "style": "style",
    "pose": "pose",
}


@dataclass(frozen=True)
class Case:
    """Inputs of one clip.

    Attributes:
        clip: Name of the clip, with ``/`` for subfolders.
        portrait: Image of the face.
        speech: File with a sound track.
        video: Real video, or None.
        driving_video: Video whose expression is transferred, or None.
        phonemes: 30 Hz JSON, TextGrid or lab file, or None.
        style: 3DMM file of the driving video for the speaking style, or None to extract it.
        pose: 3DMM file of the driving video for the head pose, or None to extract it.
    """

    clip: str
    portrait: Path
    speech: Path
    video: Path | None = None
    driving_video: Path | None = None
    phonemes: Path | None = None
    style: Path | None = None
    pose: Path | None = None

    @property
    def slug(self) -> str:
        """Unique name of the clip that contains only letters, digits, ``_`` and ``-``."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", self.clip)[-60:]
        return f"{plain}-{hashlib.sha256(self.clip.encode()).hexdigest()[:8]}"

    def files(self) -> dict[str, Path]:
        """Returns all files of the case by their field."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Path)}


def read_cases(path: Path) -> list[Case]:
    """Reads the cases of a CSV file, in its order.

    Raises:
        UserError: If the file cannot be read, lacks a column, or two rows name the same clip.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cases={path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if missing := [name for name in REQUIRED if name not in columns]:
        found = ", ".join(columns) or "nothing"
        raise UserError(f"{path}: has no column {', '.join(missing)}; found {found}, expected {', '.join(REQUIRED)}")
    known = (*REQUIRED, *OPTIONAL)
    for name in columns:
        if name not in known and (near := difflib.get_close_matches(name, known, n=1, cutoff=0.8)):
            raise UserError(f"{path}: column {name!r}: did you mean {near[0]}?")
    cases = [_case(row, f"{path}, line {line}", path.parent) for line, row in rows]
    if not cases:
        raise UserError(f"{path}: has no cases; expected at least one row below the header")
    seen: dict[str, str] = {}
    for case in cases:
        if other := seen.get(case.clip.casefold()):
            raise UserError(f"{path}: two rows name the clip {case.clip!r}" + f" ({other!r})" * (other != case.clip))
        seen[case.clip.casefold()] = case.clip
    return cases


def _case(row: dict[str, str], where: str, folder: Path) -> Case:
    if None in row or None in row.values():
        raise UserError(f"{where}: has another number of fields than the header; quote fields that contain commas")
    for name in REQUIRED:
        if not row[name].strip():
            raise UserError(f"{where}: {name} is empty")
    clip = row["clip"].strip()
    parts = PurePosixPath(clip).parts
    if clip.startswith("/") or ".." in parts or "\\" in clip or "\0" in clip or any(p.startswith(".") for p in parts):
        raise UserError(f"{where}: clip={clip!r}: expected a name; / separates folders, no part starts with a dot")
    optional = {
        field: folder / Path(value).expanduser() for name, field in OPTIONAL.items() if (value := row.get(name, ""))
    }
    return Case(
        clip, folder / Path(row["portrait"]).expanduser(), folder / Path(row["speech"]).expanduser(), **optional
    )
