"""Checks of types and ranges of values that come from a file of others, before anything of their size is made.

Dataclasses do not check their fields. Here the annotations of a dataclass are compared with what a file put into it.
"""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

MOST = 1 << 20  # of any size or count in a configuration; the largest of the paper is 1280
MOST_LAYERS = 100
_LAYERS = ("layers", "depth")


def check_sizes(config: Any, where: str) -> None:
    """Checks all fields of the configuration of a network, in which no number is larger than ``MOST``.

    Raises:
        ValueError: If one is wrong; names it.
    """
    check_types(config, where)
    for name, value in _numbers(config, where):
        most = MOST_LAYERS if name.rpartition(".")[2] in _LAYERS else MOST
        if abs(value) > most:
            raise ValueError(f"{name}={_shown(value)} (expected at most {most})")


def check_types(value: Any, where: str) -> None:
    """Checks that all fields of a dataclass, and of what is in it, have the types of their annotations.

    Whole numbers are accepted for floats; numbers that are not finite are refused everywhere.

    Raises:
        ValueError: If one has another type; names it, what was found and what was expected.
    """
    kind: Any = type(value)
    if not _fits(kind)(value):
        raise ValueError(_first_wrong(value, kind, where))


def check_count(name: str, value: Any, least: int = 0, most: int = MOST) -> int:
    """Returns a whole number within limits.

    Raises:
        ValueError: If it is none; names it.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}={_shown(value)} (expected a whole number from {least} to {most})")
    return value


def _numbers(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if is_dataclass(value):
        for field in fields(value):
            yield from _numbers(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, list | tuple):
        if len(value) > MOST:
            raise ValueError(f"{name} has {len(value)} values (expected at most {MOST})")
        for part in value:
            yield from _numbers(part, name)
    elif type(value) in (int, float):
        yield name, value


@functools.cache
def _fits(hint: Any) -> Callable[[Any], bool]:
    """Function that compares a value with an annotation; made once for each, since an index has a million values."""
    origin, parts = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        inner = [(name, _fits(part)) for name, part in _annotations(hint)]
        return lambda value: type(value) is hint and all(fits(getattr(value, name)) for name, fits in inner)
    if origin in (Union, types.UnionType):
        several = [_fits(part) for part in parts]
        return lambda value: any(fits(value) for fits in several)
    if origin is dict:
        key, item = map(_fits, parts)
        return lambda value: type(value) is dict and all(key(k) and item(v) for k, v in value.items())
    if origin is tuple and parts[-1] is not Ellipsis:
        each = [_fits(part) for part in parts]
        return lambda value: (
            type(value) is tuple
            and len(value) == len(each)
            and all(fits(v) for fits, v in zip(each, value, strict=True))
        )
    if origin in (list, tuple):
        one = _fits(parts[0])
        return lambda value: type(value) in (list, tuple) and all(map(one, value))
    if hint is float:
        return lambda value: type(value) in (int, float) and math.isfinite(value)
    if hint in (int, bool, str, type(None)):
        return lambda value: type(value) is hint
    return lambda value: True  # a Literal or a class, which the reader checks


def _annotations(kind: type) -> list[tuple[str, Any]]:
    hints = get_type_hints(kind)
    return [(field.name, hints[field.name]) for field in fields(kind)]


def _first_wrong(value: Any, hint: Any, name: str) -> str:
    """Names the first part of a value that has another type than its annotation."""
    if is_dataclass(value) and type(value) is hint:
        parts = [(f"{name}.{field}", part, getattr(value, field)) for field, part in _annotations(type(value))]
    elif isinstance(value, list | tuple) and get_origin(hint) in (list, tuple) and get_args(hint)[-1] is Ellipsis:
        parts = [(f"{name}[{place}]", get_args(hint)[0], part) for place, part in enumerate(value)]
    elif isinstance(value, dict) and get_origin(hint) is dict:
        parts = [(f"{name}.{_shown(key)}", get_args(hint)[1], part) for key, part in value.items()]
    else:
        parts = []
    for inner, part, found in parts:
        if not _fits(part)(found):
            return _first_wrong(found, part, inner)
    expected = "finite number" if hint is float else getattr(hint, "__name__", str(hint).replace("typing.", ""))
    return f"{name}={_shown(value)} (expected {expected})"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
