"""Rules that every command's configuration shares."""

from __future__ import annotations

import math

from configs.errors import ConfigError


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is none of those allowed."""
    if value not in allowed:
        raise ConfigError(f"{key}={value}: expected one of {', '.join(allowed)}")


def positive(key: str, value: float | None) -> None:
    """Refuses a number that is not above 0; None is taken."""
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{key}={value}: expected a number above 0")


def share(key: str, value: float) -> None:
    """Refuses a number outside 0 to 1."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{key}={value}: expected a share between 0 and 1")


def parse_part(part: str) -> tuple[int, int]:
    """``3/16`` -> (2, 16): the index of this part from 0, and how many there are.

    Raises:
        ConfigError: on anything else than ``i/n`` with 1 <= i <= n.
    """
    number, slash, total = part.partition("/")
    if not (slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total)):
        raise ConfigError(f"part={part}: expected i/n with 1 <= i <= n, e.g. part=3/16")
    return int(number) - 1, int(total)
