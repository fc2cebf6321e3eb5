"""What the README tells people to type works: commands compose into valid configurations, keys it names exist."""

import re
import shlex
from pathlib import Path

import pytest

from configs.command_line import all_keys, compose
from configs.generate import ExportConfig, GenerateConfig
from configs.schema import EvaluateConfig, PrepareConfig
from configs.tables import TableConfig, validate_tables
from configs.training import TrainConfig
from configs.validate_evaluate import validate_evaluate
from configs.validate_generate import validate_generate
from configs.validate_prepare import validate_prepare
from configs.validate_train import validate_train

COMMAND = r"^python {}\.py (.*?)(?:  +#.*)?$"
README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
PREPARE, TRAIN_OR_EXPORT, EVALUATE, GENERATE = (
    re.findall(COMMAND.format(script), README, flags=re.MULTILINE)
    for script in ("prepare", "train", "evaluate", "generate")
)
EXPORT = [command for command in TRAIN_OR_EXPORT if command.startswith("task=export")]
TRAIN = [command for command in TRAIN_OR_EXPORT if command not in EXPORT]


def test_there_are_commands_to_check():
    assert len(PREPARE) >= 6
    assert len(TRAIN) >= 2
    assert len(EVALUATE) >= 1
    assert len(GENERATE) >= 3
    assert len(EXPORT) >= 1


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """The folders the commands name."""
    monkeypatch.chdir(tmp_path)
    for folder in ("my_videos", "hdtf_videos", "MEAD", "results/mine", "data/real", "out", "real"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "cases.csv").touch()


@pytest.mark.parametrize("command", PREPARE)
def test_each_prepare_command_is_a_valid_configuration(command):
    typed = command.replace("$SLURM_ARRAY_TASK_ID", "3")
    validate_prepare(compose("prepare", PrepareConfig, shlex.split(typed)))


@pytest.mark.parametrize("command", TRAIN)
def test_each_train_command_is_a_valid_configuration(command):
    validate_train(compose("train", TrainConfig, shlex.split(command)))


@pytest.mark.parametrize("command", EVALUATE)
def test_each_evaluate_command_is_a_valid_configuration(command):
    typed = shlex.split(command)
    if any(argument.startswith("table=") for argument in typed):
        validate_tables(compose("tables", TableConfig, typed))
    else:
        validate_evaluate(compose("evaluate", EvaluateConfig, typed))


@pytest.mark.parametrize("command", GENERATE)
def test_each_generate_command_is_a_valid_configuration(command):
    validate_generate(compose("generate", GenerateConfig, shlex.split(command)))


@pytest.mark.parametrize("command", EXPORT)
def test_each_export_command_is_a_valid_configuration(command):
    assert compose("export", ExportConfig, shlex.split(command)).run


def test_the_keys_it_names_exist():
    keys = all_keys(PrepareConfig)
    named = set(re.findall(r"`((?:face|audio|dataset)\.[a-z_]+|max_rejected|workers|clip_timeout)", README))
    assert named
    assert {key for key in named if key not in keys} == set()
    of_generate = set(re.findall(r"`?(emotion\.[a-z]+|drive|window|overlap|landmarks|paste_back)=", README))
    assert of_generate <= all_keys(GenerateConfig)
