"""What the README tells people to type works: commands compose into valid configurations, keys it names exist."""

import re
import shlex
from pathlib import Path

import pytest

from configs.command_line import all_keys, compose
from configs.schema import PrepareConfig
from configs.validate import validate_prepare

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python prepare\.py (.*?)(?:  +#.*)?$", README, flags=re.MULTILINE)


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_a_valid_configuration(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("my_videos", "hdtf_videos", "MEAD"):
        (tmp_path / folder).mkdir()
    typed = command.replace("$SLURM_ARRAY_TASK_ID", "3")
    validate_prepare(compose("prepare", PrepareConfig, shlex.split(typed)))


def test_the_keys_it_names_exist():
    keys = all_keys(PrepareConfig)
    named = set(re.findall(r"`((?:face|audio|dataset)\.[a-z_]+|max_rejected|workers|clip_timeout)", README))
    assert named
    assert {key for key in named if key not in keys} == set()
