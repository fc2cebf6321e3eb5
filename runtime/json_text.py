"""Parsing of JSON that others may have written."""

from __future__ import annotations

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """Parses JSON, with one type of error for everything that can be wrong with it.

    Raises:
        ValueError: If it is not JSON in UTF-8, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
