"""The list of nightly checks: every entry is valid, names existing modules, and depends only on earlier ones."""

import importlib.util
from pathlib import Path

import pytest

from configs.command_line import compose
from configs.generation import ExportConfig
from configs.preparation import PrepareConfig
from configs.rules import check
from configs.training import TrainConfig
from tools.nightly.nightly_plan import read_proofs
from tools.nightly.nightly_report import COMPARISONS

FOLDER = Path("outputs/proofs")


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    videos = tmp_path_factory.mktemp("my videos")
    return read_proofs(FOLDER, videos, videos)


def test_every_check_depends_on_earlier_ones_or_given_folders(proofs):
    written = set()
    for proof in proofs:
        for path in proof.step.reads:
            if FOLDER in path.parents:
                assert any(made in (path, *path.parents) for made in written), proof.step.name
        written |= set(proof.step.products)


@pytest.mark.slow
def test_every_command_exists_and_its_configuration_is_valid(proofs):
    for proof in proofs:
        first, *keys = proof.step.command
        if first == "-m":
            assert importlib.util.find_spec(keys[0]), proof.step.name
        elif "task=export" in keys:
            assert compose("export", ExportConfig, keys).run
        elif first == "train.py":
            check(compose("train", TrainConfig, keys))
        else:
            assert first == "prepare.py"
            check(compose("prepare", PrepareConfig, keys))


def test_trainings_resume_and_wanted_values_are_comparisons(proofs):
    for proof in proofs:
        if proof.step.command[0] == "train.py" and "task=export" not in proof.step.command:
            assert "ckpt_path=last" in proof.step.command
            assert proof.step.writes
        for number in proof.numbers:
            file = number.file or proof.step.stdout
            assert file
            assert file.suffix == ".json"
            assert not number.wanted or number.wanted.split()[0] in COMPARISONS


def test_combinations_are_expanded(proofs):
    names = [proof.step.name for proof in proofs]
    assert "club_0.05_2" in names
    assert "standin_sync" in names
    assert sum(name.startswith("club_") for name in names) == 18
