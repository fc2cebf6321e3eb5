"""Registries: names of classes, of the project and of code outside the checkout.

A registry lists its built-in entries as ``package.module:attribute`` and imports an entry on first use, so that listing
names imports nothing. ``get`` accepts registered names only: a name in a stored file cannot import anything else.
``choose`` also accepts a dotted path, ``module.Class``, and is for names that a user typed.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from runtime.errors import UserError

Entry = TypeVar("Entry")


class UnknownName(UserError, ValueError):
    """A name that is not registered. The message has the key, the nearest name and all names."""


class Registry(Generic[Entry]):
    """Mapping of names to entries of one kind.

    Args:
        kind: Unique name of the registry.
        built_in: Name -> ``package.module:attribute``.
        noun: Word for an entry in messages; the kind by default.
        name_of: Function that returns the short name of an entry; by default its attribute ``name``.
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
        """Adds an entry under its short name. Can be used as a decorator.

        Raises:
            UserError: If it has no name, or another entry has the same name.
        """
        name = self.name_of(entry)
        if not isinstance(name, str) or not name.isidentifier():
            raise UserError(f"a {self.noun} needs a short name, e.g. name = 'mine'; found {name!r}")
        if name in self._entries and self.get(name) is not entry:
            raise UserError(f"there is another {self.noun} called {name}; choose another name")
        self._entries[name] = entry
        return entry

    def get(self, name: str, key: str | None = None) -> Entry:
        """Returns the entry of a registered name.

        Args:
            name: Registered name.
            key: Key or file that holds the name, for the message.

        Raises:
            UnknownName: If the name is not registered. Nothing is imported then.
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
        """Returns the short name for what a user typed: a registered name, or the dotted path of a class to import.

        Raises:
            UserError: If there is no such name or class, or the class cannot be registered.
        """
        if name in self._entries:  # imported when it is used
            return name
        if "." not in name:
            self.get(name, key)  # raises
        path, _, attribute = name.rpartition(".")
        try:
            entry = getattr(importlib.import_module(path), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{path}.".startswith(f"{error.name}."):
                raise  # an import of the module itself failed
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
    """Kind and dotted path of all entries that were imported by path, to register them in other processes."""
    return tuple(_TAKEN)


def take(paths: Iterable[tuple[str, str]]) -> None:
    """Registers entries that another process or the command line names."""
    for kind, path in paths:
        if kind not in REGISTRIES:
            raise UserError(f"plugins={kind}:{path}: expected kind:module.Class, kind one of {', '.join(REGISTRIES)}")
        try:
            REGISTRIES[kind].choose(path, "")
        except UserError as error:
            raise UserError(f"plugins={kind}:{str(error).removeprefix('=')}") from None


def exports(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], list[str]]:
    """Makes ``__getattr__`` and ``__all__`` of a package whose main names are imported on first use.

    Args:
        package: ``__name__`` of the package.
        homes: Name -> module that defines it.
    """

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    return find, sorted(homes)
