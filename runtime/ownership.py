"""Files that this program may replace: only those that it wrote. Other files are never overwritten or removed.

Records know their schema, and videos carry their mark. Files that can carry none, such as tables, pictures and sound,
are listed in ``.emotivetalk.json`` in their output folder (``claim``).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from runtime.errors import UserError
from runtime.files import write_whole
from runtime.json_text import parse_json
from runtime.locks import locked

LIST = ".emotivetalk.json"
LIST_SCHEMA = "emotivetalk.files/1"


class ForeignFileError(UserError):
    """A file or folder that this program did not write and therefore does not replace."""

    exit_status = 2


def require_own_json(path: Path, schema: str, setting: str) -> None:
    """Checks that a JSON file is missing or was written by this program.

    A damaged file is this program's if it begins with the schema, as its records do.

    Args:
        path: File that is about to be replaced or removed.
        schema: Name of the schema of this program's files, without its version.
        setting: Key and value that name the file, for the message.

    Raises:
        ForeignFileError: If the file is not of this schema.
    """
    if not os.path.lexists(path):
        return
    try:
        content = path.read_bytes()
    except OSError:
        content = b""
    try:
        found = json.loads(content)
        own = isinstance(found, dict) and str(found.get("schema")).partition("/")[0] == schema
    except (ValueError, RecursionError):
        own = re.match(rb'\s*\{\s*"schema": "' + re.escape(schema.encode()) + b"/", content) is not None
    if not own:
        refuse(path, setting)


def require_own_files(folder: Path, names: Iterable[str], setting: str, ours: Collection[str] = ()) -> None:
    """Checks that files of an output folder are missing or were written by this program.

    Args:
        folder: Output folder.
        names: Paths in it, with slashes.
        setting: Key and value that name the folder, for the message.
        ours: Names of files that are this program's by their content.

    Raises:
        ForeignFileError: If a file is there and was not claimed.
    """
    claimed = _claimed(folder, setting)
    for name in names:
        if name not in claimed and name not in ours and os.path.lexists(folder / name):
            refuse(folder / name, setting)


def claim(folder: Path, names: Iterable[str], setting: str, ours: Collection[str] = ()) -> None:
    """Checks files as ``require_own_files``, and lists them as this program's before they are written.

    Raises:
        ForeignFileError: If a file is there and was not claimed.
        OSError: If the list cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = set(names)
    with locked(folder / f"{LIST}.lock", f"the list of files in {folder}", "", wait=True):
        require_own_files(folder, sorted(wanted), setting, ours)
        if wanted - (before := _claimed(folder, setting)):
            content = {"schema": LIST_SCHEMA, "files": sorted(before | wanted)}
            write_whole(folder / LIST, json.dumps(content, indent=1) + "\n")


def _claimed(folder: Path, setting: str) -> set[str]:
    """Names in the list of a folder; none if there is no list."""
    require_own_json(folder / LIST, LIST_SCHEMA.partition("/")[0], setting)
    try:
        found = parse_json((folder / LIST).read_text(encoding="utf-8"))["files"]
        return {name for name in found if isinstance(name, str)}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / LIST}: cannot be read ({error}); it lists the files that this program wrote, so choose another "
            "output, or remove it and them"
        ) from None


def refuse(path: Path, setting: str) -> None:
    """Raises ``ForeignFileError`` for a file."""
    raise ForeignFileError(
        f"{setting}: {path} was not written by this program and is not replaced; move it, or choose another output"
    )
