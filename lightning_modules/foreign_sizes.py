"""Checks of the numbers in an export before anything of their size is made."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from torch import Tensor, nn

MOST = 1 << 20  # of any size or count in a configuration; the largest of the paper is 1280
MOST_LAYERS = 100
_LAYERS = ("layers", "depth")


def check_sizes(config: Any, where: str) -> None:
    """Checks types and ranges of all fields of a dataclass, and of the dataclasses in it.

    Raises:
        ValueError: If one is wrong; names it.
    """
    hints = get_type_hints(type(config))
    for field in fields(config):
        name, value = f"{where}.{field.name}", getattr(config, field.name)
        if is_dataclass(value):
            check_sizes(value, name)
            continue
        most = MOST_LAYERS if field.name in _LAYERS else MOST
        if not _fits(value, hints[field.name], most):
            raise ValueError(f"{name}={str(value)[:60]} (expected {_text(hints[field.name])} of at most {most})")


def check_shapes(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Checks that tensors have the names and shapes of a network, which can be on the meta device.

    Raises:
        ValueError: If not; names the first that differs.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    for name in sorted(own.keys() | found.keys()):
        if own.get(name) != found.get(name):
            raise ValueError(f"tensor {name} of shape {found.get(name)} (expected {own.get(name)})")


def check_count(name: str, value: Any, least: int = 0, most: int = MOST) -> int:
    """Returns a whole number within limits.

    Raises:
        ValueError: If it is none; names it.
    """
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name}={str(value)[:60]!r} (expected a whole number from {least} to {most})")
    return value


def _fits(value: Any, hint: Any, most: int) -> bool:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part, most) for part in get_args(hint))
    if origin in (list, tuple):
        part = get_args(hint)[0]
        return isinstance(value, list | tuple) and len(value) <= most and all(_fits(each, part, most) for each in value)
    if hint is int:
        return type(value) is int and abs(value) <= most
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in (bool, str, type(None)):
        return type(value) is hint
    return True


def _text(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
