"""Names that stand for classes: the project's own, and those a lab adds from outside the checkout.

A registry lists its built-in entries as ``package.module:attribute`` and imports one when it is asked for, so that
listing names loads nothing. ``get`` knows registered names only: what a stored file names can import nothing else.
``choose`` also takes a dotted path, ``module.Class``, and is for what a person typed.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from runtime.errors import UserError

Entry = TypeVar("Entry")


class UnknownName(UserError, ValueError):
    """A name nobody registered; the message holds the key, the nearest name and those there are."""


class Registry(Generic[Entry]):
    """Entries of one kind by name.

    Args:
        kind: a word that no other registry has.
        built_in: name -> ``package.module:attribute``.
        noun: what an entry is called in messages; the kind by default.
        name_of: gives an entry's short name; its attribute ``name`` by default.
    """

    def __init__(
        self,
        kind: str,
        built_in: Mapping[str, str],
        noun: str | None = None,
        name_of: Callable[[Entry], Any] = lambda entry: getattr(entry, "name", None),
    ) -> None:
        self.kind = kind
        self.noun = noun or kind
        self.name_of = name_of
        self._entries: dict[str, Entry | str] = dict(built_in)
        REGISTRIES[kind] = self

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def names(self) -> tuple[str, ...]:
        """All registered names."""
        return tuple(self._entries)

    def register(self, entry: Entry) -> Entry:
        """Adds an entry under its short name; also as a decorator.

        Raises:
            UserError: when it has no name, or another entry has that name.
        """
        name = self.name_of(entry)
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"a {self.noun} needs a short name, e.g. name = 'mine'; found {name!r}")
        if name in self._entries and self.get(name) is not entry:
            raise UserError(f"there is another {self.noun} called {name}; choose another name")
        self._entries[name] = entry
        return entry

    def get(self, name: str, key: str | None = None) -> Entry:
        """The entry of a registered name.

        Args:
            name: as registered.
            key: or file that names it, for the message.

        Raises:
            UnknownName: for any other name; nothing is imported then.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            raise UnknownName(
                f"{key or self.kind}={name}: there is no such {self.noun}; "
                + (f"did you mean {near[0]}? There are " if near else "there are ")
                + f"{', '.join(self.names())}. One of your own is named by its path, module.Class, or with "
                f"plugins=[{self.kind}:module.Class]"
            )
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = self._entries[name] = getattr(importlib.import_module(module), attribute)
        return entry

    def choose(self, name: str, key: str) -> str:
        """The short name of what a person typed: a registered name, or the dotted path of a class, which is imported.

        Raises:
            UserError: when there is neither, or the class cannot be registered.
        """
        if name in self._entries or "." not in name:
            self.get(name, key)
            return name
        path, _, attribute = name.rpartition(".")
        try:
            entry = getattr(importlib.import_module(path), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise  # something the module needs
            raise UserError(
                f"{key}={name}: Python finds no module {error.name}; name its folder with --config-dir=FOLDER"
            ) from None
        except AttributeError:
            raise UserError(f"{key}={name}: {path} has no {attribute}") from None
        try:
            self.register(entry)
        except UserError as error:
            raise UserError(f"{key}={name}: {error}") from None
        if (self.kind, name) not in _TAKEN:
            _TAKEN.append((self.kind, name))
        return str(self.name_of(entry))


REGISTRIES: dict[str, Registry[Any]] = {}
_TAKEN: list[tuple[str, str]] = []


def taken() -> tuple[tuple[str, str], ...]:
    """Kind and dotted path of all that was chosen from outside, for processes that are to know the same names."""
    return tuple(_TAKEN)


def take(paths: Iterable[tuple[str, str]]) -> None:
    """Registers what another process, or the command line, names."""
    for kind, path in paths:
        if kind not in REGISTRIES:
            raise UserError(f"plugins={kind}:{path}: expected kind:module.Class, kind one of {', '.join(REGISTRIES)}")
        try:
            REGISTRIES[kind].choose(path, "")
        except UserError as error:
            raise UserError(f"plugins={kind}:{str(error).removeprefix('=')}") from None


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """``__getattr__`` and ``__all__`` of a package whose main names are imported when they are first used.

    Args:
        package: its ``__name__``.
        homes: name -> module that defines it.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return find, sorted(homes)
