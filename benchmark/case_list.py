"""What a system is asked to make: one row of ``cases.csv`` per clip.

Columns: ``clip`` (the name of the result, and of its real video), ``portrait``, ``speech``; where there are such
``video`` (the real video), ``emotion.video`` (the video whose expression drives), ``phonemes``, ``style``, ``pose``.
Paths are taken as they are, relative ones from the folder of the file; further columns are other programs'.
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
    """One clip to make.

    Attributes:
        clip: its name, with ``/`` for subfolders.
        portrait: picture of the face.
        speech: the sound, any file with a sound track.
        video: the real video, or None.
        driving_video: the video whose expression drives, or None.
        phonemes: 30 Hz JSON, TextGrid or lab file, or None.
        style: 3DMM file of the driving video for the speaking style, or None to make it.
        pose: the same for the head's pose.
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
        """The clip's name in letters, digits, ``_`` and ``-`` that no other clip shares."""
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", self.clip)[-60:]
        return f"{plain}-{hashlib.sha256(self.clip.encode()).hexdigest()[:8]}"

    def files(self) -> dict[str, Path]:
        """Every file it names, by what it is."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Path)}


def read_cases(path: Path) -> list[Case]:
    """The cases of a file, in its order.

    Raises:
        UserError: if it cannot be read, lacks a column, or two rows would make the same file.
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
        raise UserError(f"{path}: holds no case below its header")
    seen: dict[str, str] = {}
    for case in cases:
        if other := seen.get(case.clip.casefold()):
            raise UserError(f"{path}: two rows make the clip {case.clip!r}" + f" ({other!r})" * (other != case.clip))
        seen[case.clip.casefold()] = case.clip
    return cases


def _case(row: dict[str, str], where: str, folder: Path) -> Case:
    if None in row or None in row.values():
        raise UserError(f"{where}: has not as many fields as the header; quote fields that hold commas")
    for name in REQUIRED:
        if not row[name].strip():
            raise UserError(f"{where}: {name} is empty")
    clip = row["clip"].strip()
    parts = PurePosixPath(clip).parts
    if clip.startswith("/") or ".." in parts or "\\" in clip or "\0" in clip or any(p.startswith(".") for p in parts):
        raise UserError(f"{where}: clip={clip!r}: expected a name, with / for subfolders that do not start with a dot")
    optional = {
        field: folder / Path(value).expanduser() for name, field in OPTIONAL.items() if (value := row.get(name, ""))
    }
    return Case(
        clip, folder / Path(row["portrait"]).expanduser(), folder / Path(row["speech"]).expanduser(), **optional
    )
