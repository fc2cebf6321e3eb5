"""Folders outside the checkout that hold YAML groups and Python modules of a lab.

``--config-dir LAB`` or ``hydra.searchpath=[file://LAB]`` names such a folder. It may hold ``LAB/experiment/mine.yaml``,
``LAB/dataset/ours.yaml`` and the modules that dotted paths name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from configs.errors import ConfigError
from runtime.errors import UserError
from runtime.registry import take

CONFIG_FOLDER = Path(__file__).resolve().parent
_folders: list[Path] = []


def lab_folders() -> list[Path]:
    """The lab folders of this process, in the order in which they were named."""
    return list(_folders)


def use_lab(folders: Iterable[Path]) -> None:
    """Adds lab folders and makes their modules importable.

    Raises:
        ConfigError: If a path is not a folder.
    """
    for folder in map(Path.absolute, folders):
        if not folder.is_dir():
            raise ConfigError(
                f"{folder}: no such folder; --config-dir and hydra.searchpath name a folder of YAML groups"
            )
        if folder not in _folders:
            _folders.append(folder)
            sys.path.insert(1, str(folder))  # after the project, so that a lab's modules cannot replace the project's


def take_plugins(arguments: Sequence[str]) -> list[str]:
    """Registers the classes of ``plugins=[kind:module.Class, ...]`` and returns the other arguments.

    Raises:
        ConfigError: If a class is not found or cannot be registered.
    """
    named = [argument for argument in arguments if argument.startswith("plugins=")]
    for text in named:
        pairs = [part.strip().partition(":") for part in text.removeprefix("plugins=").strip("[]").split(",")]
        try:
            take((kind, path) for kind, _, path in pairs)
        except UserError as error:
            raise ConfigError(str(error)) from None
    return [argument for argument in arguments if argument not in named]


def named_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """The lab folders that a command line names."""
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if key in ("--config-dir", "-cd") and (equals or place + 1 < len(arguments)):
            yield Path(value if equals else arguments[place + 1])
        elif key.lstrip("+") == "hydra.searchpath":
            parts = (part.strip(" '\"") for part in value.strip("[]").split(","))
            yield from (Path(part.removeprefix("file://")).expanduser() for part in parts if "pkg://" not in part)


def options_of(group: str) -> list[str]:
    """The options of a config group, including those in lab folders."""
    return sorted({file.stem for folder in (CONFIG_FOLDER, *_folders) for file in (folder / group).glob("*.yaml")})
