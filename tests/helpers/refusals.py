"""Expected errors and their messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def refuses(error: type[Exception], words: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    """Checks that ``call(*arguments, **options)`` raises the error with a message that matches ``words``."""
    with pytest.raises(error, match=words):
        call(*arguments, **options)
