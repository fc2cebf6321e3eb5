"""Files that this program may replace: only those that it wrote. Other files are never overwritten or removed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from runtime.errors import UserError


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


def refuse(path: Path, setting: str) -> None:
    """Raises ``ForeignFileError`` for a file."""
    raise ForeignFileError(
        f"{setting}: {path} was not written by this program and is not replaced; move it, or choose another output"
    )
