"""The list of nightly checks: every entry is valid, names existing modules, and depends only on earlier ones."""

import importlib.util
from pathlib import Path

import pytest

from configs.command_line import compose
from configs.generation import ExportConfig, GenerateConfig
from configs.preparation import PrepareConfig
from configs.rules import check
from configs.training import TrainConfig
from tests.helpers import ROOT
from tools.nightly.measured import code_of
from tools.nightly.nightly_plan import read_checks
from tools.nightly.nightly_report import COMPARISONS

FOLDER = Path("outputs/nightly")


@pytest.fixture(scope="module")
def checks(tmp_path_factory):
    videos = tmp_path_factory.mktemp("my videos")
    return read_checks(FOLDER, videos, videos)


def test_every_check_depends_on_earlier_ones_or_given_folders(checks):
    written = set()
    for item in checks:
        for path in item.step.reads:
            if FOLDER in path.parents:
                assert any(made in (path, *path.parents) for made in written), item.step.name
        written |= set(item.step.products)


@pytest.mark.slow
def test_every_command_exists_and_its_configuration_is_valid(tmp_path):
    (tmp_path / "nightly" / "person_video").mkdir(parents=True)  # written by a check, and read by prepare.py
    for item in read_checks(tmp_path / "nightly", tmp_path, tmp_path):
        first, *keys = item.step.command
        if first == "-m":
            assert importlib.util.find_spec(keys[0]), item.step.name
        elif "task=export" in keys:
            assert compose("export", ExportConfig, keys).run
        elif first == "train.py":
            check(compose("train", TrainConfig, keys))
        elif first == "generate.py":
            assert compose("generate", GenerateConfig, keys).output
        else:
            assert first == "prepare.py"
            check(compose("prepare", PrepareConfig, keys))


def test_measurements_of_time_and_commands_that_use_all_cores_run_alone(checks):
    alone = {item.step.name for item in checks if item.step.cores is None}
    measured = {"loader", "prepare_steps", "on_the_fly", "speed_vaid", "speed_ethd_step", "metrics_reference"}
    assert measured | {"demo", "demo_real"} <= alone
    assert {item.step.name for item in checks if item.step.name.startswith("long_tests_")} <= alone
    trainings = [item.step for item in checks if "experiment=ethd/" in item.step.typed]
    assert len(trainings) == 3
    assert all(step.cores is None for step in trainings)  # two ranks
    of_demo = [item.step for item in checks if any(path.parts[0] == "demo" for path in item.step.reads)]
    assert {step.name for step in of_demo} == {"figure3", "figure4"}
    assert all(step.cores is None for step in of_demo)  # after the demonstration, which writes them
    assert {item.step.cores for item in checks} == {1, None}


def test_every_long_test_is_in_one_check(checks):
    *parts, others = (item.step for item in checks if item.step.name.startswith("long_tests_"))
    folders = [step.command[-1] for step in parts]
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert [word for word in others.command if word.startswith("--ignore=")] == [f"--ignore={one}" for one in folders]
    assert "tests" in others.command


def test_trainings_resume_and_wanted_values_are_comparisons(checks):
    for item in checks:
        if item.step.command[0] == "train.py" and "task=export" not in item.step.command:
            assert "ckpt_path=last" in item.step.command
            assert item.step.writes
        for number in item.numbers:
            file = number.file or item.step.stdout
            assert file
            assert file.suffix == ".json"
            assert not number.wanted or number.wanted.split()[0] in COMPARISONS


def test_combinations_are_expanded(checks):
    names = [item.step.name for item in checks]
    assert "club_0.05_2" in names
    assert "proxy_sync" in names
    assert sum(name.startswith("club_") for name in names) == 18


def test_the_code_of_a_check_is_that_of_its_part_or_its_own(checks):
    found = {item.step.name: item.code for item in checks}
    assert "tools/reproduce" in found["table3"]
    assert "tools/reproduce/table2.py" in found["table2_0"]
    assert "benchmark" not in found["table2_0"]
    assert len({code_of(ROOT, code) for code in set(found.values())}) == len(set(found.values()))
