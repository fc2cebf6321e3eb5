"""Assertion that a call raises an error with a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def refuses(error: type[Exception], words: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Asserts that ``call(*arguments, **options)`` raises ``error`` and its message matches the pattern ``words``."""
    with pytest.raises(error, match=words):
        call(*arguments, **options)
