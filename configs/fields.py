"""Fields of a configuration: each default is declared with its constraint, and one function checks all of them.

    steps: int = positive(25)
    loss: str = choice("x0", "x0", "v", "min_snr")

A constraint applies to the value itself, or to each entry of a list or dictionary; null passes if the field's type
allows it. ``literal`` fields hold paths or texts, which ``command_line.py`` passes to Hydra as typed, whatever they
contain. ``registered`` fields name entries of a registry; a dotted path of a class is imported, registered and
replaced by its short name. This file needs neither Hydra nor OmegaConf, so networks may import it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from configs.errors import ConfigError
from runtime.registry import Registry

MISSING: Any = "???"  # OmegaConf's spelling


@dataclass(frozen=True)
class Constraint:
    """Condition on the value of a field.

    Attributes:
        holds: Predicate of the value.
        expected: The condition in words, to follow "expected".
        hints: Value -> message, for values that people try and that cannot work.
        whole: Whether the condition applies to a whole list instead of each entry.
    """

    holds: Callable[[Any], Any]
    expected: str
    hints: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False

    def require(self, key: str, value: Any) -> None:
        """Refuses a value that does not meet the condition.

        Raises:
            ConfigError: Names the key, the value and what is expected.
        """
        if not self.holds(value):
            raise ConfigError(f"{key}={value}: {self.hints.get(str(value), f'expected {self.expected}')}")


def constrained(default: Any, constraint: Constraint | None, literal: bool = False, **metadata: Any) -> Any:
    """Field with a constraint. A list or dictionary as default is copied for each instance."""
    metadata |= {"literal": literal, "constraint": constraint}
    if isinstance(default, list | dict | type):
        make = default if isinstance(default, type) else lambda: copy.copy(default)
        return field(default_factory=make, metadata=metadata)
    return field(default=default, metadata=metadata)


def literal(default: Any = MISSING, constraint: Constraint | None = None) -> Any:
    """Field whose value is used as typed: a path or a text."""
    return constrained(default, constraint, literal=True)


def registered(
    registry: Registry[Any] | dict[str, Registry[Any]], default: Any = MISSING, also: tuple[str, ...] = ()
) -> Any:
    """Field that names entries of a registry: a name, a list, a mapping, or a schema with a ``name``.

    A mapping is kind -> name if each kind has a registry, otherwise name -> keyword arguments.

    Args:
        registry: Registry of the entries, or one for each kind.
        default: Default value; a class is instantiated.
        also: Further names that are accepted.
    """
    return constrained(default, None, registry=registry, also=also)


def choice(default: Any, *options: Any, hints: Mapping[str, str] | None = None) -> Any:
    """One of the options, or a list of them. ``Literal[...]`` counts as the options it lists."""
    return constrained(default, one_of(*options, hints=hints))


def one_of(*options: Any, hints: Mapping[str, str] | None = None) -> Constraint:
    """Constraint of ``choice``."""
    options = tuple(one for option in options for one in get_args(option) or [option])
    return Constraint(options.__contains__, f"one of {', '.join(map(str, options))}", hints or {})


def rule(default: Any, holds: Callable[[Any], Any], expected: str, whole: bool = False) -> Any:
    """Field with any other condition, described by ``expected``."""
    return constrained(default, Constraint(holds, expected, whole=whole))


def positive(default: Any) -> Any:
    """A number above 0."""
    return rule(default, lambda value: math.isfinite(value) and value > 0, "a number above 0")


def at_least(default: Any, low: float, because: str = "") -> Any:
    """A number of ``low`` or more."""
    return rule(default, lambda value: math.isfinite(value) and value >= low, f"{low:g} or more{because}")


def between(default: Any, low: float, high: float) -> Any:
    """A number from ``low`` to ``high``, both included."""
    return rule(default, lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")


def share(default: Any) -> Any:
    """A number from 0 to 1."""
    return rule(default, lambda value: 0 <= value <= 1, "a share between 0 and 1")


def number(default: Any) -> Any:
    """Any number, negative ones included."""
    return rule(default, math.isfinite, "a number")


def panel() -> Any:
    """A rectangle of a picture, or null for the whole picture."""

    def holds(value: list[int]) -> bool:
        return len(value) == 4 and min(value[:2]) >= 0 and min(value[2:]) >= 1

    return rule(None, holds, "[x,y,width,height] in pixels, e.g. [1030,2,512,512]", whole=True)


def part() -> Any:
    """``i/n``: the i-th of n parts, i from 1."""

    def holds(value: str) -> bool:
        number, slash, total = value.partition("/")
        return bool(slash and number.isdecimal() and total.isdecimal() and 1 <= int(number) <= int(total))

    return rule("1/1", holds, "i/n with 1 <= i <= n, e.g. part=3/16")


def check_fields(config: Any, prefix: str = "") -> None:
    """Checks every value of a configuration, and of those nested in it, against its field's constraint.

    Raises:
        ConfigError: Names the dotted key, its value and what is expected.
    """
    for found in fields(config):
        key, value = prefix + found.name, getattr(config, found.name)
        if is_dataclass(value):
            check_fields(value, f"{key}.")
        elif (constraint := found.metadata.get("constraint")) and value is not None:
            if isinstance(value, Mapping):
                for name, entry in value.items():
                    constraint.require(f"{key}.{name}", entry)
            else:
                for entry in value if isinstance(value, list) and not constraint.whole else [value]:
                    constraint.require(key, entry)


def constraints(config: type) -> dict[str, Constraint]:
    """Dotted key -> constraint, for every field of a schema that has one."""
    return {key: constraint for key, found, _ in walk(config) if (constraint := found.metadata.get("constraint"))}


def walk(config: type, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """Yields dotted key, field and type for every field of a schema and of those nested in it."""
    hints = get_type_hints(config)
    for found in fields(config):
        hint = hints[found.name]
        yield prefix + found.name, found, hint
        for kind in (hint, *get_args(hint), *found.metadata.get("kinds", ())):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from walk(kind, f"{prefix}{found.name}.")
