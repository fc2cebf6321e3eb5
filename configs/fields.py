"""Fields of a configuration whose values the command line treats in a way of their own.

A field marked ``literal`` is a path or a text that a person types; ``command_line.py`` hands it to Hydra untouched,
whatever characters it holds.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

MISSING: Any = "???"  # as OmegaConf spells it, which networks and metrics need not load


def literal(default: Any = MISSING) -> Any:
    """A field whose value is taken as typed: a path, or words."""
    return field(default=default, metadata={"literal": True})
