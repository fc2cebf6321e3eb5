"""Parsing of JSON that others may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.files import read_regular

MOST = 2**28  # bytes of a JSON file of others


def parse_json(text: str | bytes) -> Any:
    """Parses JSON, with one type of error for everything that can be wrong with it.

    Raises:
        ValueError: If it is not JSON in UTF-8, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def read_json(path: Path) -> Any:
    """Reads and parses a JSON file.

    Raises:
        OSError: If it cannot be read, is no regular file, or has more than ``MOST`` bytes.
        ValueError: As ``parse_json``.
    """
    return parse_json(read_regular(path, MOST))
