"""Runs a system's own script until it has parsed its command line, and writes the parsed values.

    python reading.py OUT.json MODE SCRIPT_OR_MODULE ARGUMENTS...

MODE is ``stop`` (end after parsing), or the dotted name of the script's configuration module. That module is really
imported and its ``cfg`` is written. All modules outside the standard library are replaced by objects that do nothing.
"""

import argparse
import importlib.abc
import importlib.machinery
import json
import runpy
import sys
import types

out, mode, script, *arguments = sys.argv[1:]
REAL = set(sys.stdlib_module_names) | {"yaml", "_yaml", "six"}


class Nothing:
    """Can be called, iterated, subclassed or used as a decorator, and does nothing."""

    def __init__(self, *_, **__):
        pass

    def __call__(self, *args, **_):
        return args[0] if len(args) == 1 and callable(args[0]) else Nothing()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()

    def __iter__(self):
        return iter(())


class Empty(types.ModuleType):
    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        real = name.partition(".")[0] in REAL or mode.startswith(name) or name.startswith(mode.rpartition(".")[0] + ".")
        running = script.startswith(f"{name}.") or name == script
        return None if real or running else importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


def save(found):
    with open(out, "w") as file:
        json.dump(found, file, default=str)


def parse_args(self, *args, **kwargs):
    found = original(self, *args, **kwargs)
    save(vars(found))
    if mode == "stop":
        raise SystemExit(0)
    return found


original = argparse.ArgumentParser.parse_args
argparse.ArgumentParser.parse_args = parse_args
sys.meta_path.insert(0, Finder())
sys.argv = [script, *arguments]
sys.path.insert(0, ".")
if script.endswith(".py"):
    runpy.run_path(script, run_name="__main__")
else:
    runpy.run_module(script, run_name="__main__", alter_sys=True)
if mode != "stop":
    save(dict(sys.modules[mode].cfg))
