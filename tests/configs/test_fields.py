"""Every field of every schema has a constraint and refuses values that violate it."""

import copy
import math
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_origin

import pytest
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.app import AppConfig
from configs.command_line import checked, compose
from configs.errors import ConfigError
from configs.evaluation import EvaluateConfig
from configs.fields import check_fields, constraints, walk
from configs.generation import ExportConfig, GenerateConfig
from configs.preparation import ENCODER_KINDS, PrepareConfig
from configs.systems import RunSystemConfig
from configs.tables import TableConfig
from configs.training import MODELS, TrainConfig

COMMANDS = {
    "vaid": ("train", TrainConfig, ["experiment=vaid/tiny", "data.root=a"]),
    "emotion": ("train", TrainConfig, ["experiment=emotion/tiny", "data.root=a"]),
    "ethd": ("train", TrainConfig, ["experiment=ethd/tiny", "data.root=a", "vaid=b"]),
    "proxy": ("train", TrainConfig, ["experiment=proxy/image", "data.root=a"]),
    "prepare": ("prepare", PrepareConfig, ["dataset=folder", "source=.", "output=a"]),
    "generate": ("generate", GenerateConfig, ["portrait=a.png", "speech=b.wav", "output=c.mp4", "ethd=d"]),
    "evaluate": ("evaluate", EvaluateConfig, ["generated=.", "reference=.", "output=a.json"]),
    "app": ("app", AppConfig, ["ethd=a"]),
    "tables": ("tables", TableConfig, []),
    "export": ("export", ExportConfig, ["run=a"]),
    "systems": ("systems", RunSystemConfig, ["system=folder", "cases=README.md", "output=a"]),
}
# Words that no schema lists, and where they are checked: names that registries or files decide.
WORDS = {
    "preset", "protocol", "dataset.name", "dataset.split", "dataset.views", "data.split", "data.roots", "encoders",
    "model.factors", "model.text.name", "datasets", "columns", "dataset.known", "name", "objective", "checkpoints.best",
    *(f"encoders.{kind}.name" for kind in ENCODER_KINDS),
}  # fmt: skip


@cache
def composed(command: str) -> Any:
    name, schema, typed = COMMANDS[command]
    return compose(name, schema, typed)


@cache
def structured(command: str) -> DictConfig:
    return OmegaConf.structured(composed(command))


def fields_of(command: str) -> Iterator[tuple[str, Any, Any]]:
    """Key, field and type of everything that a command reads; of ``model`` only the fields of its stage."""
    config = composed(command)
    whole = command not in ("emotion", "ethd", "proxy")  # whose other keys are those of vaid
    kind = type(getattr(config, "model", None))
    for key, field, hint in walk(kind, "model.") if not whole else walk(COMMANDS[command][1]):
        inner = [one for one in (hint, *get_args(hint)) if isinstance(one, type) and is_dataclass(one)]
        stage = not key.startswith("model.") or key in {name for name, _, _ in walk(kind, "model.")}
        if stage and not inner and hint is not Any and get_origin(hint) is not dict:
            yield key, field, hint


def impossible(hint: Any) -> list[Any]:
    """Values of a type that hardly any key accepts, and one of another type."""
    kinds = {hint, *get_args(hint), *(inner for kind in get_args(hint) for inner in get_args(kind))}
    several = list in map(get_origin, kinds)
    values: list[Any] = ["no such word", "", {"a": "mapping"}]
    if float in kinds:
        values = [-1.0, 0.0, math.nan, math.inf, "letters"]
    elif int in kinds:
        values = [-1, 0, 2**70, "letters"]
    elif bool in kinds:
        values = ["maybe"]
    return [[value] for value in values] if several else values


def refusal(command: str, key: str, value: Any) -> str | None:
    """Error message for a value; None if it is accepted."""
    config = structured(command)
    before = copy.deepcopy(OmegaConf.select(config, key))
    try:
        OmegaConf.update(config, key, value, merge=False)
        checked(config, COMMANDS[command][1])
    except ConfigError as error:
        return str(error)
    except OmegaConfBaseException as error:  # to which the command line adds the key that was typed
        return f"{key}: {error}"
    finally:
        OmegaConf.update(config, key, before, merge=False)
    return None


@pytest.mark.parametrize("command", COMMANDS)
def test_every_field_has_a_constraint_and_refuses_other_values(command):
    stated = constraints(COMMANDS[command][1])
    keys = list(fields_of(command))
    assert len(keys) >= 4
    for key, field, hint in keys:
        constraint, free = stated.get(key), field.metadata.get("literal") or key in WORDS
        for value in impossible(hint):
            message = refusal(command, key, value)
            fits = constraint is not None and holds(constraint, value)
            assert message or fits or free, f"{key}={value}: nothing says that this may be"
            if message and not fits and not free:
                assert key in message, f"{key}={value}: {message}"
                assert len(message.splitlines()) == 1 or "full_key" in message


def holds(constraint: Any, value: Any) -> bool:
    try:
        return bool(constraint.holds(value if constraint.whole or not isinstance(value, list) else value[0]))
    except (TypeError, AttributeError):  # of another type
        return False


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_meet_their_constraints(command):
    check_fields(composed(command))


@pytest.mark.parametrize("model", MODELS)
def test_defaults_of_networks_meet_their_constraints(model):
    check_fields(model(), "model.")
