"""Turns a command line into a checked configuration, or into one line that names what is wrong.

In Hydra's grammar of ``key=value``, spaces, ``(``, ``#``, ``'``, ``,`` and ``$`` have a meaning. Paths and texts are
therefore quoted here before Hydra parses them.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs import store
from configs.errors import ConfigError
from configs.fields import walk
from configs.lab import CONFIG_FOLDER, lab_folders, named_folders, options_of, take_plugins, use_lab
from configs.options import foreign_syntax, run_script
from configs.renamed import VALUES, current_names, note, replace_old_values
from configs.rules import check
from configs.sweeps import Sweep, TaskResult, refuse_lone_sweeper
from runtime.errors import UserError
from runtime.registry import Registry
from runtime.threads import share_cores

Config = TypeVar("Config")

# Flag of Hydra -> whether a value follows.
FLAGS = dict.fromkeys(("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r"), False)
FLAGS |= dict.fromkeys(("--multirun", "-m", "--shell-completion", "-sc", "--info", "-i"), False)
FLAGS |= dict.fromkeys(("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn"), True)
FLAGS |= dict.fromkeys(("--config-dir", "-cd", "--experimental-rerun"), True)
PLUGINS = ("optuna", "submitit_slurm", "submitit_local")  # options of Hydra's plugins
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # values of --info
WANTED = {  # cause given by OmegaConf -> expected value
    "could not be converted to Integer": "a whole number",
    "could not be converted to Float": "a number",
    "is not a valid bool": "true or false",
    "is not Optional": "a value; it cannot be null",
}


def quote_literals(arguments: Sequence[str], keys: set[str]) -> list[str]:
    """Quotes the values of literal keys, so that Hydra reads exactly what was typed.

    Expands a leading ``~``, which shells do not expand after ``key=``. ``null`` keeps its meaning and an empty value
    stays empty.
    """
    return [_quote(argument, keys) for argument in arguments]


def _quote(argument: str, keys: set[str]) -> str:
    key, equals, value = argument.partition("=")
    if not equals or key.lstrip("+") not in keys or value == "null":
        return argument
    value = os.path.expanduser(value).replace("${", "\\${")
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


Task = Callable[[Any], int | TaskResult]


def names_key(arguments: Sequence[str], key: str) -> bool:
    """Whether a command line names a key, as ``key=value`` or in another program's syntax."""
    return any(argument.lstrip("-+").partition("=")[0] == key for argument in arguments)


def run(config_name: str, config: type[Config], task: Task) -> None:
    """Composes ``configs/<config_name>.yaml``, checks it, and runs ``task`` with the typed configuration.

    Exits with the status that ``task`` returns, with 2 and a message of one line if the configuration is wrong, or with
    130 after Ctrl-C. In a sweep, the value that ``task`` returns goes to Hydra's sweeper.
    """
    share_cores()  # before torch is imported
    run_script(lambda: _run(config_name, config, task))


def _run(config_name: str, config: type[Config], task: Task) -> int:
    store.register()
    typed = current_names(sys.argv[1:])
    use_lab(named_folders(typed))
    keys, flags = _sorted(take_plugins(typed))
    if foreign := foreign_syntax(keys, all_keys(config) | set(groups())):
        raise ConfigError(f"{foreign}; --help shows examples")
    if bare := next((key for key in keys if key.startswith("-") or ("=" not in key and key[:1] != "~")), None):
        raise ConfigError(f"{bare}: expected key=value; --help shows examples")
    if {"-m", "--multirun"} & set(typed):  # jobs of a sweep can start in any folder
        older = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CONFIG_FOLDER.parent), *map(str, lab_folders()), *older])
    sys.argv[1:] = [*quote_literals(keys, literal_keys(config)), *flags]  # Hydra accepts no flag between two keys
    ended: int | TaskResult | Exception = 0
    sweep = Sweep()

    def main(composed: DictConfig) -> float | None:
        nonlocal ended
        sys.argv[1:] = typed  # Lightning starts further processes with these, and each process quotes them
        use_lab(_found_folders())
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return sweep.run(composed, lambda: task(checked(composed, config)))
        try:
            refuse_lone_sweeper()
            ended = task(checked(composed, config))
        except Exception as error:  # Hydra would print all overrides before it raises
            ended = error
        return None

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises instead of printing; the error becomes one line here
    try:
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name=config_name)(main)()
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ConfigError(readable(error, config)) from error
    except Exception as error:
        if str(error) in sweep.printed:
            return UserError.exit_status
        if _of_submitit(error):
            raise UserError(str(error)) from error
        raise
    if isinstance(ended, Exception):
        raise ended
    sweep.print_best()
    return ended.status if isinstance(ended, TaskResult) else ended


def _sorted(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The keys of a command line, and Hydra's flags with their values."""
    keys: list[str] = []
    flags: list[str] = []
    words = iter(arguments)
    for word in words:
        flag, equals, _ = word.partition("=")
        if flag in FLAGS:
            flags += [word, *([next(words, "")] if FLAGS[flag] and not equals else [])]
        elif flags[-1:] in (["--info"], ["-i"]) and word in INFO:
            flags.append(word)
        else:
            keys.append(word)
    return keys, flags


def _found_folders() -> Iterator[Path]:
    """Lab folders in Hydra's search path, which also holds in the jobs of a sweep, whose command line differs."""
    for source in HydraConfig.get().runtime.config_sources:
        if source.schema == "file" and Path(source.path) != CONFIG_FOLDER and Path(source.path).is_dir():
            yield Path(source.path)


def _of_submitit(error: Exception) -> bool:
    """Whether submitit raised an error, whose text is the output of ``sbatch``."""
    submitit = sys.modules.get("submitit.core.utils")
    return submitit is not None and isinstance(error, submitit.UncompletedJobError | submitit.FailedSubmissionError)


def compose(config_name: str, config: type[Config], overrides: Sequence[str]) -> Config:
    """Typed configuration of a command line, neither run nor checked; for scripts and notebooks."""
    store.register()
    use_lab(named_folders(overrides))
    typed = quote_literals(take_plugins(current_names(overrides)), literal_keys(config))
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return to_typed(hydra.compose(config_name, typed), config)


def checked(composed: DictConfig, config: type[Config]) -> Config:
    """Converts a composed configuration to its dataclass and checks it.

    Raises:
        ConfigError: Names the key, its value and what is expected.
    """
    typed = to_typed(composed, config)
    check(typed)
    return typed


def to_typed(composed: DictConfig, config: type[Config]) -> Config:
    """Converts a composed configuration to its dataclass.

    Raises:
        ConfigError: If a key has no value or is not in the schema.
    """
    for line in replace_old_values(composed):
        note(line)
    if unknown := next(_unknown(composed), None):
        raise ConfigError(_no_key(unknown, config))
    missing = OmegaConf.missing_keys(composed)
    if missing:
        named = sorted(missing)
        alone = ", or choose one dataset: data=hdtf data.root=DIR" if named[0].startswith("data.roots.") else ""
        raise ConfigError(f"no value for {', '.join(named)}: add {named[0]}=VALUE{alone}; --help shows examples")
    try:
        typed = OmegaConf.to_object(composed)
        _choose(typed)
    except OmegaConfBaseException as error:
        raise ConfigError(readable(error, config)) from error
    except UserError as error:
        raise ConfigError(str(error)) from None
    assert isinstance(typed, config)
    return typed


def _choose(config: Any, prefix: str = "") -> None:
    """Looks up every name of a registry in a configuration. A dotted path is imported and replaced by a short name."""
    for field in fields(config):
        value, key = getattr(config, field.name), prefix + field.name
        if "registry" in field.metadata:
            setattr(config, field.name, _chosen(value, key, field.metadata["registry"], field.metadata["also"]))
        elif "typed_by" in field.metadata and isinstance(value, dict):  # a stage without a schema in the store
            registry, name = field.metadata["typed_by"]
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
    if isinstance(value, dict):
        return {name: _entry(name, arguments, key, registry) for name, arguments in value.items()}
    if is_dataclass(value):
        setattr(value, "name", _chosen(getattr(value, "name"), f"{key}.name", registry, also))  # noqa: B009, B010
        return value
    return value if value in (None, "???", *also) else registry.choose(value, key)


def _entry(name: str, arguments: Any, key: str, registry: Registry[Any]) -> dict[str, Any]:
    """Keyword arguments of one entry. Its class is the argument ``class``, or the registered class of its name."""
    if not isinstance(arguments, dict | None):
        raise ConfigError(f"{key}.{name}={arguments}: expected keyword arguments, e.g. {{class: module.Class}}")
    arguments = dict(arguments or {})
    if "class" in arguments:
        arguments["class"] = registry.choose(str(arguments["class"]), f"{key}.{name}.class")
    else:
        registry.get(name, key)
    return arguments


def _unknown(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys that ``+`` added to a node whose schema lacks them."""
    kind = OmegaConf.get_type(node)
    known = {field.name for field in fields(kind)} if kind is not None and is_dataclass(kind) else None
    for name, child in node.items_ex(resolve=False):
        if known is not None and name not in known:
            yield f"{prefix}{name!s}"
        elif isinstance(child, DictConfig) and not child._is_none() and not child._is_missing():
            yield from _unknown(child, f"{prefix}{name!s}.")


def _no_key(key: str, config: type) -> str:
    if key in groups():
        return f"this command has no key '{key}'; --help lists every key"
    near = difflib.get_close_matches(key, sorted(all_keys(config) | set(groups())), n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists every key"
    return f"there is no key '{key}'; {hint}"


def readable(error: Exception, config: type) -> str:
    """Message of one line for a configuration error: the key, what was found and what to try."""
    unknown = re.search(r"Could not override '([^']+)'", str(error))
    if unknown and (key := unknown.group(1)) not in all_keys(config):
        return _no_key(str(key), config)
    if unknown:  # a key below this one is wrong
        cause = str(error.__cause__).splitlines()[0]
        if re.fullmatch(r"Key '\w+' not in '\w+'", cause):  # of the schema that an experiment chose
            return f"there is no key '{key}' in this experiment; --help lists every key"
        return f"{key}: {cause}" + (f"; a new entry is written +{key}" if "struct" in cause else "")
    if "Config group override must be a string" in str(error):
        nothing = [key for key in groups() if f"{key}=null" in sys.argv]
        return "; ".join(f"{key}=null: expected one of {', '.join(options_of(key))}" for key in nothing) or str(error)
    option = re.search(r"Could not (?:find|load) '([^']+)/([^'/]*)'", str(error))
    if option:
        group, found = option.groups()
        there = options_of(group) or _options_of_hydra(group)
        if found in PLUGINS and found not in there:
            return f"{group}={found}: needs a plugin of Hydra that is not installed; pip install '.[sweep]'"
        near = difflib.get_close_matches(found, there, n=1)
        near = [new] if (new := VALUES.get(group, {}).get(found)) else near
        hint = f"did you mean {near[0]}? There are" if near else "there are"
        return f"{group}={found}: there is no such option; {hint} {', '.join(there)}"
    inside = re.search(r"In '([^']+)': ConfigKeyError.*Key '([^']+)' not in '([^']+)'", str(error), re.DOTALL)
    if inside:
        file, key, schema = inside.groups()
        near = difflib.get_close_matches(key, {name.rpartition(".")[2] for name in all_keys(config)}, n=1)
        return f"{file}.yaml: there is no key '{key}' in {schema}" + (f"; did you mean {near[0]}?" if near else "")
    merged = re.search(r"Error merging override (\S+)", str(error))
    cause = str(error.__cause__).splitlines()[0] if error.__cause__ else ""
    for pattern, wanted in WANTED.items():
        if merged and re.search(pattern, cause):
            return f"{merged.group(1)}: expected {wanted}"
    text = str(error).split("Config search path")[0]
    if error.__cause__ is not None:
        text += f"\n{error.__cause__}"
    unwanted = ("full_key", "object_type", "reference_type", "See https")
    lines = [line.strip().rstrip(":") for line in text.splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith(unwanted))


def _options_of_hydra(group: str) -> list[str]:
    """Options of one of Hydra's own groups, including those of its plugins."""
    with contextlib.suppress(OSError):
        return sorted(Path(name).stem for name in ConfigStore.instance().list(group) if name.endswith(".yaml"))
    return []


def groups() -> list[str]:
    """Names of all config groups."""
    folders = (CONFIG_FOLDER, *lab_folders())
    found = {file.parent.relative_to(folder).as_posix() for folder in folders for file in folder.glob("*/**/*.yaml")}
    return sorted(found | {"experiment"})


def all_keys(config: type) -> set[str]:
    """Dotted names of every field of a schema."""
    return {name for name, _, _ in walk(config)}


def literal_keys(config: type) -> set[str]:
    """Dotted names of the fields of a schema that hold paths or texts."""
    return {name for name, field, _ in walk(config) if field.metadata.get("literal")}
