"""From what a person types to a checked configuration, or to one readable line that says what is wrong.

Hydra reads ``key=value`` with a grammar of its own, in which spaces, ``(``, ``#``, ``'``, ``,`` or ``$`` in a path mean
something. What a person types as a path or a text is taken literally here, before that grammar sees it.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs import store
from configs.errors import ConfigError
from runtime.errors import UserError
from runtime.registry import Registry, take

Config = TypeVar("Config")

CONFIG_FOLDER = Path(__file__).resolve().parent
# Errors these packages define are meant for the person at the keyboard.
PACKAGES = (
    "media",
    "encoders",
    "datamodules",
    "preparation",
    "lightning_modules",
    "callbacks",
    "training",
    "evaluation",
    "generation",
    "benchmark",
    "web",
    "submitit",  # sbatch's own words
)


class SweepError(RuntimeError):
    """A run of a sweep failed; the message is its own."""


def quote_literals(arguments: Sequence[str], keys: set[str]) -> list[str]:
    """Quotes the values of literal keys, so that Hydra reads them back exactly as typed.

    A leading ``~`` is expanded, since no shell does so after ``key=``. ``null`` keeps its meaning, and an empty value
    stays empty.
    """
    return [_quote(argument, keys) for argument in arguments]


def _quote(argument: str, keys: set[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in keys or value == "null":
        return argument
    value = os.path.expanduser(value).replace("${", "\\${")
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def run(config_name: str, config: type[Config], task: Callable[[Config], int]) -> None:
    """Composes ``configs/<config_name>.yaml``, checks it against its schema, and runs ``task`` with a typed config.

    Exits with the status ``task`` returns; with 2 and one readable message when the configuration is wrong; with 130
    after Ctrl-C.
    """
    store.register()
    typed = sys.argv[1:]
    try:
        sys.argv[1:] = quote_literals(with_lab(typed), literal_keys(config))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    status: int | Exception = 0
    if {"-m", "--multirun"} & set(typed):  # jobs of a sweep may start in any folder
        os.environ["PYTHONPATH"] = os.pathsep.join(
            [str(CONFIG_FOLDER.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        ).rstrip(os.pathsep)

    def main(composed: DictConfig) -> None:
        nonlocal status
        sys.argv[1:] = typed  # Lightning starts further processes with them, and each quotes for itself
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _run_of_a_sweep(lambda: task(to_typed(composed, config)), config)
            return
        try:
            status = task(to_typed(composed, config))
        except Exception as error:  # Hydra would print every override before it raises
            status = error

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing, and we say it in one line
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name=config_name)(main)()
        if isinstance(status, Exception):
            raise status
    except (ConfigError, HydraException, OmegaConfBaseException) as error:
        print(readable(error, config), file=sys.stderr)
        sys.exit(2)
    except SweepError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to continue.", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if not for_the_user(error):
            raise  # a bug: its traceback is what we need to see
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    sys.exit(status)


def for_the_user(error: Exception) -> bool:
    """Whether an error's own line says all; any other is a bug, whose traceback is needed."""
    return isinstance(error, UserError | OSError) or type(error).__module__.partition(".")[0] in PACKAGES


def _run_of_a_sweep(task: Callable[[], int], config: type) -> None:
    """Runs ``task``, perhaps in another process on another machine, where only what is raised comes back.

    Raises:
        SweepError: for a status other than 0, or an error; that is printed first, into the run's own log.
        SystemExit: for a run that was stopped and is saved: it has no result yet, and the job that goes on will have.
    """
    try:
        status = task()
    except Exception as error:
        if isinstance(error, ConfigError | HydraException | OmegaConfBaseException):
            text = readable(error, config)
        else:
            traceback.print_exc()
            text = f"error: {error}"
        print(text, file=sys.stderr, flush=True)
        raise SweepError(text.removeprefix("error: ")) from None  # the error itself might not bear the way back
    if status == os.EX_TEMPFAIL:
        sys.exit(status)
    if status:
        raise SweepError(f"a run of the sweep ended with status {status}; its log says why")


def compose(config_name: str, config: type[Config], overrides: Sequence[str]) -> Config:
    """The typed configuration a command line would give, without running anything; for scripts and notebooks."""
    store.register()
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return to_typed(hydra.compose(config_name, quote_literals(with_lab(overrides), literal_keys(config))), config)


def lab_folders(arguments: Sequence[str]) -> list[Path]:
    """Folders of configuration outside the project, from ``--config-dir`` and ``hydra.searchpath``."""
    found: list[str] = []
    for place, argument in enumerate(arguments):
        key, equals, value = argument.partition("=")
        if key in ("--config-dir", "-cd"):
            found.append(value if equals else next(iter(arguments[place + 1 :]), ""))
        elif key == "hydra.searchpath":
            found += [part.strip(" '\"") for part in value.strip("[]").split(",")]
    return [Path(os.path.expanduser(name.removeprefix("file://"))).resolve() for name in found if "pkg://" not in name]


def with_lab(arguments: Sequence[str]) -> list[str]:
    """The arguments without ``plugins=[kind:module.Class, ...]``, whose classes are registered.

    Modules are also looked for in the folders of ``lab_folders``.

    Raises:
        UserError: when a plugin is not found, or cannot be registered.
    """
    sys.path += [str(folder) for folder in lab_folders(arguments) if str(folder) not in sys.path]
    named = [argument for argument in arguments if argument.startswith("plugins=")]
    for text in named:
        pairs = [part.strip().partition(":") for part in text.removeprefix("plugins=").strip("[]").split(",")]
        take((kind, path) for kind, _, path in pairs)
    return [argument for argument in arguments if argument not in named]


def to_typed(composed: DictConfig, config: type[Config]) -> Config:
    """The composed configuration as an instance of its dataclass."""
    missing = OmegaConf.missing_keys(composed)
    if missing:
        named = sorted(missing)
        raise ConfigError(f"no value for {', '.join(named)}: add {named[0]}=VALUE; --help shows examples")
    typed = OmegaConf.to_object(composed)
    if not isinstance(typed, config):
        raise ConfigError(f"expected a {config.__name__}, composed a {type(typed).__name__}")
    try:
        _choose(typed)
    except UserError as error:
        raise ConfigError(str(error)) from None
    return typed


def _choose(config: Any, prefix: str = "") -> None:
    """Looks up every name of a registry in a configuration; a dotted path is imported and becomes its short name."""
    for field in fields(config):
        value, key = getattr(config, field.name), prefix + field.name
        if "registry" in field.metadata:
            setattr(config, field.name, _chosen(value, key, field.metadata["registry"], field.metadata["also"]))
        elif "typed by" in field.metadata and isinstance(value, dict):  # of a stage that has no schema in the store
            registry, name = field.metadata["typed by"]
            schema = OmegaConf.structured(registry.get(getattr(config, name)).config)
            setattr(config, field.name, OmegaConf.to_object(OmegaConf.merge(schema, value)))
        elif is_dataclass(value):
            _choose(value, f"{key}.")


def _chosen(value: Any, key: str, registry: Registry[Any] | dict[str, Registry[Any]], also: Sequence[str]) -> Any:
    if isinstance(registry, dict):
        return {
            kind: registry[kind].choose(name, f"{key}.{kind}") if kind in registry else name
            for kind, name in value.items()
        }
    if isinstance(value, list):
        return [registry.choose(name, key) for name in value]
    if is_dataclass(value):
        setattr(value, "name", _chosen(getattr(value, "name"), f"{key}.name", registry, also))  # noqa: B009, B010
        return value
    return value if value in (None, "", "???", *also) else registry.choose(value, key)


def readable(error: Exception, config: type) -> str:
    """One short message for a configuration error: the key, what was found, and what to try."""
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if unknown:
        near = difflib.get_close_matches(unknown.group(1), sorted(all_keys(config)), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists every key"
        return f"error: there is no key '{unknown.group(1)}'; {hint}"
    option = re.search(r"Could not find '([^']+)/([^'/]*)'", str(error))
    if option:
        group, found = option.groups()
        there = options_of(group)
        near = difflib.get_close_matches(found, there, n=1)
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        return f"error: {group}={found}: there is no such option; {hint} {', '.join(there)}"
    text = str(error).split("Config search path")[0]
    if error.__cause__ is not None:
        text += f"\n{error.__cause__}"
    unwanted = ("full_key", "object_type", "reference_type", "See https")
    lines = [line.strip().rstrip(":") for line in text.splitlines()]
    return "error: " + "; ".join(line for line in lines if line and not line.startswith(unwanted))


def options_of(group: str) -> list[str]:
    """The options of a config group, as its folder has them."""
    return sorted(file.stem for file in (CONFIG_FOLDER / group).glob("*.yaml"))


def all_keys(config: type, prefix: str = "") -> set[str]:
    """Dotted names of every field of a schema."""
    return {name for name, _ in _walk(config, prefix)}


def literal_keys(config: type) -> set[str]:
    """Dotted names of every field of a schema that holds a path or a text."""
    return {name for name, literal in _walk(config) if literal}


def _walk(config: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    hints = get_type_hints(config)
    for field in fields(config):
        yield prefix + field.name, bool(field.metadata.get("literal"))
        for kind in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(kind) and isinstance(kind, type):
                yield from _walk(kind, f"{prefix}{field.name}.")
