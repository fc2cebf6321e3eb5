"""What must be refused, and in which words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def refuses(error: type[Exception], words: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """``call(*arguments, **options)`` raises that error, whose message holds the words (a pattern)."""
    with pytest.raises(error, match=words):
        call(*arguments, **options)
