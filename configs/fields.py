"""Fields of a configuration whose values the command line treats in a way of their own.

A field marked ``literal`` is a path or a text that a person types; ``command_line.py`` hands it to Hydra untouched,
whatever characters it holds. A field marked ``registered`` names entries of a registry; there a dotted path of a class
is imported, registered and replaced by its short name.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from runtime.registry import Registry

MISSING: Any = "???"  # as OmegaConf spells it, which networks and metrics need not load


def literal(default: Any = MISSING) -> Any:
    """A field whose value is taken as typed: a path, or words."""
    return field(default=default, metadata={"literal": True})


def registered(registry: Registry[Any] | dict[str, Registry[Any]], also: tuple[str, ...] = (), **default: Any) -> Any:
    """A field that names entries: a text, a list, a mapping kind -> name, or a configuration with a ``name``.

    Args:
        registry: of the entries; one for each kind.
        also: other names that are taken.
        **default: ``default`` or ``default_factory``; without, the value is required.
    """
    return field(metadata={"registry": registry, "also": also}, **default or {"default": MISSING})
