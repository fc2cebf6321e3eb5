"""``key=value`` for the scripts that measure or prove something and need no configuration of Hydra's."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from configs.command_line import for_the_user

Readers = Mapping[str, Callable[[str], Any]]  # key -> what reads its value


def read_options(
    usage: str | None,
    arguments: Sequence[str],
    known: Readers,
    places: Sequence[str] = (),
    required: Sequence[str] = (),
) -> dict[str, Any]:
    """What was typed, by name; keys that were not typed are left out.

    Args:
        usage: the script's docstring, printed for ``--help``.
        arguments: as typed.
        known: key -> what reads its value; it raises ValueError for one it cannot use.
        places: names of the leading arguments that are typed without a key; all are needed.
        required: keys that are needed.

    Raises:
        SystemExit: 0 after ``--help``; 2, and one line that says what is wrong, for anything else.
    """
    if {"-h", "--help"} & set(arguments):
        print((usage or "").strip())
        sys.exit(0)
    leading = [argument for argument in arguments[: len(places)] if "=" not in argument]
    if len(leading) < len(places):
        _refuse(f"no value for {places[len(leading)]}: expected {' '.join(places)}")
    found: dict[str, Any] = dict(zip(places, leading, strict=True))
    for argument in arguments[len(places) :]:
        key, equals, value = argument.partition("=")
        if not equals or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}=? " if near else ""
            _refuse(f"{argument}: {hint}expected {', '.join(f'{name}=...' for name in known) or 'nothing more'}")
        try:
            found[key] = known[key](value)
        except ValueError as error:
            _refuse(f"{argument}: {error}")
    for key in required:
        if key not in found:
            _refuse(f"no value for {key}: add {key}=...")
    return found


def run_script(main: Callable[[], object]) -> NoReturn:
    """Runs a script and ends; what is wrong with its input is one line, a bug a traceback."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if not for_the_user(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def yes(value: str) -> bool:
    """``yes`` or ``no``."""
    if value not in ("yes", "no"):
        raise ValueError("expected yes or no")
    return value == "yes"


def count(value: str) -> int:
    """A whole number above 0."""
    if not value.isdecimal() or int(value) < 1:
        raise ValueError("expected a whole number above 0")
    return int(value)


def counts(value: str) -> list[int]:
    """Whole numbers above 0 with commas between them."""
    return [count(part) for part in value.split(",")]


def _refuse(message: str) -> NoReturn:
    print(f"error: {message}; --help shows examples", file=sys.stderr)
    sys.exit(2)
