"""Grammar of command lines, ``key=value``, and exit of a command; for all commands, also those without Hydra."""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from configs.errors import ConfigError
from configs.renamed import current_names
from runtime.ending import BASE, Ended, caught, end_like_ctrl_c, finished
from runtime.errors import UserError, message_of, printable

INTERRUPTED = BASE + signal.SIGINT
Readers = Mapping[str, Callable[[str], Any]]  # key -> parser of its value


def read_options(
    usage: str | None,
    arguments: Sequence[str],
    known: Readers,
    places: Sequence[str] = (),
    required: Sequence[str] = (),
) -> dict[str, Any]:
    """Parses a command line.

    Args:
        usage: Docstring of the script, printed for ``--help``.
        arguments: Words of the command line.
        known: Key -> parser of its value, which raises ValueError for a value it cannot use.
        places: Names of the leading arguments without a key. All are required.
        required: Keys that are required.

    Returns:
        Name -> value, for every argument that was typed.

    Raises:
        SystemExit: After ``--help``.
        ConfigError: If an argument is wrong or missing.
    """
    _help(usage, arguments)
    leading = [argument for argument in arguments[: len(places)] if "=" not in argument and argument[:1] != "-"]
    if len(leading) < len(places):
        _refuse(f"no value for {places[len(leading)]}: expected {' '.join(places)}")
    found: dict[str, Any] = dict(zip(places, leading, strict=True))
    keys = current_names(arguments[len(places) :])
    if foreign := foreign_syntax(keys, known):
        _refuse(foreign)
    for argument in keys:
        key, _, value = argument.partition("=")
        if key not in known:
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


def read_command(usage: str | None, arguments: Sequence[str], commands: Collection[str]) -> str:
    """The first argument: the name of one of a script's commands.

    Raises:
        SystemExit, ConfigError: As in ``read_options``.
    """
    _help(usage, arguments)
    if not arguments or arguments[0] not in commands:
        _refuse(f"{' '.join(arguments[:1])}: expected one of {', '.join(commands)}".removeprefix(": "))
    return arguments[0]


def foreign_syntax(arguments: Sequence[str], known: Collection[str]) -> str | None:
    """Message for the first argument in another program's syntax, ``--key value`` or ``key value``, or None."""
    for word, after in zip(arguments, [*arguments[1:], ""], strict=False):
        if ("=" in word and not word.startswith("-")) or word.startswith("~"):
            continue
        name, equals, value = word.lstrip("-").partition("=")
        key = name.replace("-", "_")
        if key not in known:
            key = next(iter(difflib.get_close_matches(key, known, n=1)), "")
        elif not equals and after and not after.startswith("-") and after.partition("=")[0] not in known:
            value, word = after, f"{word} {after}"
        if key:
            return f"{word}: is written {key}={value or 'VALUE'} here"
    return None


def run_script(main: Callable[[], object]) -> NoReturn:
    """Runs a command and exits with its status. An error in the input prints one line, a bug prints a traceback.

    Ctrl-C ends a command with status 130. SIGTERM and SIGHUP act the same, with status 143 and 129.
    """
    end_like_ctrl_c()
    try:
        try:
            ended = main()
            status = ended if isinstance(ended, int) else 0
        finally:
            caught()
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError):  # the terminal may be closed
            print("\nStopped. Run the same command again to continue.", file=sys.stderr, flush=True)
        status = error.exit_status if isinstance(error, Ended) else INTERRUPTED
    except (UserError, OSError) as error:
        print(f"error: {printable(message_of(error))}", file=sys.stderr)
        status = error.exit_status if isinstance(error, UserError) else 1
    finally:
        finished()
    sys.exit(status)  # outside of "except", so that what the error kept alive is gone before the interpreter ends


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


def whole(value: str) -> int:
    """A whole number of 0 or more."""
    if not value.isdecimal():
        raise ValueError("expected a whole number from 0")
    return int(value)


def seconds(value: str) -> float:
    """A number above 0."""
    try:
        found = float(value)
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise ValueError("expected a number above 0")
    return found


def chosen(*options: str) -> Callable[[str], str]:
    """Parser of one of some words."""

    def read(value: str) -> str:
        if value not in options:
            raise ValueError(f"expected one of {', '.join(options)}")
        return value

    return read


def path(value: str) -> Path:
    """A file or folder. A leading ``~`` is the home folder: shells do not expand it after ``key=``."""
    if not value:
        raise ValueError("expected a path")
    return Path(os.path.expanduser(value))


def folder(value: str) -> Path:
    """An existing folder."""
    if not path(value).is_dir():
        raise ValueError("no such folder")
    return path(value)


def each(read: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    """Parser of values separated by commas."""
    return lambda value: [read(part) for part in value.split(",")]


counts = each(count)
paths = each(path)
names = each(str)


def named_paths(value: str) -> dict[str, Path]:
    """``NAME=PATH``, separated by commas, each name once."""
    pairs = [part.partition("=") for part in value.split(",")]
    found = {name: path(place) for name, _, place in pairs if name and place}
    if len(found) < len(pairs):
        raise ValueError("expected NAME=PATH,NAME=PATH,..., each name once")
    return found


def _help(usage: str | None, arguments: Sequence[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        print((usage or "").strip())
        sys.exit(0)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; --help shows examples")
