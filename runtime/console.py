"""The console of every command: as wide as its terminal, or wide enough for a table in a log file."""

from __future__ import annotations

from rich.console import Console

LOG_WIDTH = 160  # columns where there is no terminal


def new_console(*, stderr: bool = False, quiet: bool = False, highlight: bool = True) -> Console:
    """A console for tables and messages.

    Args:
        stderr: whether it writes to standard error.
        quiet: whether it writes nothing at all.
        highlight: whether numbers and paths are coloured.
    """
    console = Console(stderr=stderr, quiet=quiet, highlight=highlight)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console
