"""Old names on the command line and in YAML files, with the names that replace them.

Each old name is read for one version, with one line that gives the new name. The next version drops these tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from omegaconf import DictConfig

KINDS = ("sync", "image", "video", "expression")
KEYS = {"standins": "proxies"}
VALUES: Mapping[str, Mapping[str, str]] = {  # last part of the key -> old value -> new value
    "experiment": {f"standin/{kind}": f"proxy/{kind}" for kind in KINDS},
    "model": {"standin": "proxy"},
    "network": {"standin": "proxy"},
    "stage": {"standin": "proxy"},
}
RUN_FOLDERS = {"proxy": "standin"}  # stage -> folder of its runs in earlier versions
STORED: Mapping[str, Mapping[str, str]] = {  # values in the config.yaml of a run
    **VALUES,
    "name": {f"standin-{kind}": f"proxy-{kind}" for kind in KINDS},
}


def note(line: str) -> None:
    """Prints a line to standard error."""
    print(f"note: {line}; the next version reads the new name only", file=sys.stderr, flush=True)


def current_names(arguments: Sequence[str], report: Callable[[str], None] = note) -> list[str]:
    """Replaces old keys and values of a command line.

    Args:
        arguments: Words of the command line.
        report: Receives one line for each replaced word.
    """
    return [_current(argument, report) for argument in arguments]


def _current(argument: str, report: Callable[[str], None]) -> str:
    key, equals, value = argument.partition("=")
    if not equals:
        return argument
    values = VALUES.get(key.rpartition(".")[2].lstrip("+"), {})
    # A sweep names several values with commas between them.
    found = f"{KEYS.get(key, key)}={','.join(values.get(one, one) for one in value.split(','))}"
    if found != argument:
        report(f"{argument} is now {found}")
    return found


def replace_old_values(config: DictConfig, table: Mapping[str, Mapping[str, str]] = VALUES) -> list[str]:
    """Replaces old values in a configuration, in place; returns one line for each."""
    lines = []
    for key, child in config.items_ex(resolve=False):
        name = str(key)
        if isinstance(child, DictConfig):
            if not child._is_none() and not child._is_missing():
                lines += [f"{name}.{line}" for line in replace_old_values(child, table)]
        elif isinstance(child, str) and (new := table.get(name, {}).get(child)):
            config[name] = new
            lines.append(f"{name!s}={child} is now {new}")
    return lines
