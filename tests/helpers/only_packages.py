"""``python`` with only some packages and no network.

    python tests/helpers/only_packages.py PACKAGES -m MODULE ARGUMENT...

PACKAGES are distributions, separated by commas. Modules of other installed distributions cannot be imported, unless one
of PACKAGES requires them. Connections to other machines are refused.
"""

from __future__ import annotations

import re
import runpy
import sys
from importlib.machinery import PathFinder
from importlib.metadata import DistributionFinder, PackageNotFoundError, packages_distributions, requires
from pathlib import Path

LOCAL = ("127.0.0.1", "::1", "localhost")


def required(packages: list[str]) -> set[str]:
    """The distributions and all that they require, without extras; normalised names."""
    found: set[str] = set()
    waiting = [normal(name) for name in packages]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            needs = requires(name) or []
        except PackageNotFoundError:
            continue
        waiting += [normal(re.match(r"[\w.-]+", need).group()) for need in needs if "extra ==" not in need]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class OnlyAllowed(PathFinder):
    """Finds modules and distributions on ``sys.path``, except the blocked ones, as if they were not installed."""

    blocked: set[str] = set()
    allowed: set[str] = set()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.blocked else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context=DistributionFinder.Context()):  # noqa: B008
        return (each for each in super().find_distributions(context) if normal(each.name) in cls.allowed)


def no_network(event: str, arguments: tuple) -> None:
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in LOCAL:
        raise OSError(f"connection to {arguments[1]}")
    if event == "socket.getaddrinfo" and arguments[0] not in (*LOCAL, "", None):
        raise OSError(f"look-up of {arguments[0]}")


if __name__ == "__main__":
    packages, flag, module, *arguments = sys.argv[1:]
    assert flag == "-m"
    OnlyAllowed.allowed = {*required(packages.split(",")), "emotivetalk"}
    OnlyAllowed.blocked = {
        name
        for name, owners in packages_distributions().items()
        if OnlyAllowed.allowed.isdisjoint(normal(owner) for owner in owners)
    }
    sys.path[0] = str(Path(__file__).parents[2])
    sys.meta_path[sys.meta_path.index(PathFinder)] = OnlyAllowed
    sys.addaudithook(no_network)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
