"""Console of every command: as wide as the terminal, or wide enough for tables in a log file."""

from __future__ import annotations

from rich.console import Console

LOG_WIDTH = 160  # columns without a terminal


def new_console(*, stderr: bool = False, quiet: bool = False, highlight: bool = True) -> Console:
    """Console for tables and messages.

    Args:
        stderr: Whether to write to standard error.
        quiet: Whether to write nothing.
        highlight: Whether to colour numbers and paths.
    """
    console = Console(stderr=stderr, quiet=quiet, highlight=highlight)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console
