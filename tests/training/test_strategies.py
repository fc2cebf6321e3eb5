"""The same losses, weights and exports from one process, two under DDP, and two under DeepSpeed's ZeRO-2."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_modules.checkpoints import read_checkpoint
from lightning_modules.ethd.artifact import export, load_artifact
from lightning_modules.vaid.checkpoint import load_vaid
from tests.helpers.ethd import SMALLEST_ETHD
from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST, train_config
from tests.training.test_fit import logged
from training.fit import fit

ROOT = Path(__file__).parents[2]
# CLUB, whose pairs cross clips and therefore ranks, acts from step 2 on.
SETTINGS = ("experiment=vaid/tiny", *SMALLEST, "model.club.weight=1", "model.lr_warmup=0", "trainer.max_steps=6")
PARTS = ("loss", "club", "club_nll", "lip_nce", "lip_mse", "expression_mse")
# Equal but for the order of float32 sums: 1e-7 in a loss. AdamW divides by the gradient's size, so where a gradient is
# next to nothing its rounding moves a weight by up to the learning rate, 1e-3, in a step.
LOSS, WEIGHT = 1e-4, 2e-3

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "it's (1) #shards"
    make_shards(folder, frames=(30, 40, 50), splits=("train", "train", "val"))
    return folder


@pytest.fixture(scope="module")
def one_process(shards, tmp_path_factory) -> Path:
    config = train_config(*SETTINGS, "run_id=one")
    config.data.root, config.output = str(shards), str(tmp_path_factory.mktemp("runs"))
    return fit(config).folder


def check(folder: Path, one_process: Path) -> None:
    for part in PARTS:
        expected, found = (logged(run, f"train/{part}") for run in (one_process, folder))
        assert sorted(found) == list(range(6))
        for step, value in expected.items():
            assert float(found[step]) == pytest.approx(float(value), rel=LOSS, abs=LOSS), (part, step)
    one, other = (load_vaid(run / "checkpoints" / "last.ckpt").state_dict() for run in (one_process, folder))
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=WEIGHT, rtol=0, msg=name)


def train(*command: str) -> None:
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ddp(shards, tmp_path, one_process):
    """Through the shell, with a path Hydra's grammar would trip over, and started twice by Lightning."""
    parallel = [
        "trainer.devices='2'",
        "trainer.strategy=ddp",
        f"output={tmp_path}",
        f"data.root={shards}",
        "run_id=two",
    ]
    train("train.py", *SETTINGS, *parallel)
    check(tmp_path / "vaid" / "two", one_process)


needs_deepspeed = pytest.mark.skipif(
    not importlib.util.find_spec("deepspeed"), reason="needs pip install 'emotivetalk[deepspeed]'"
)


@needs_deepspeed
def test_deepspeed(shards, tmp_path, one_process):
    train("tests/helpers/train_under.py", "deepspeed", "2", str(shards), str(tmp_path), *SETTINGS, "run_id=zero")
    folder = tmp_path / "vaid" / "zero"
    assert (folder / "checkpoints" / "last.ckpt").is_dir()  # the engine's own layout
    check(folder, one_process)


# ETHD, at the paper's learning rate. A bias before a normalisation has no gradient but rounding. AdamW divides by the
# gradient's size and moves it by the whole learning rate, here one way and there the other: 1e-5 in each of six steps.
ETHD = (
    "experiment=ethd/tiny",
    *SMALLEST_ETHD,
    "model.prediction=v",
    "model.lr=1e-5",
    "trainer.max_minutes=null",
    "trainer.max_steps=6",
)
EXPORT = 2 * 6 * 1e-5


@pytest.fixture(scope="module")
def ethd_alone(shards, one_process, tmp_path_factory) -> Path:
    config = train_config(*ETHD, "run_id=one")
    config.data.root, config.output, config.vaid = str(shards), str(tmp_path_factory.mktemp("ethd")), str(one_process)
    config.encoders = {}
    return fit(config).folder


@pytest.fixture(scope="module", params=["ddp", pytest.param("deepspeed", marks=needs_deepspeed)])
def ethd_on_two(request, shards, one_process, tmp_path_factory) -> Path:
    """The run directory of two ranks."""
    output = tmp_path_factory.mktemp(request.param)
    under = ["tests/helpers/train_under.py", request.param, "2", str(shards), str(output)]
    train(*under, *ETHD, f"vaid={one_process}", "run_id=two")
    return output / "ethd" / "two"


def test_ethd_on_two_ranks_has_the_losses_of_one_process(ethd_alone, ethd_on_two):
    for part in ("train/loss", "train/x0_mse", "val/loss"):
        expected, found = (logged(folder, part) for folder in (ethd_alone, ethd_on_two))
        assert sorted(found) == sorted(expected)
        for step, value in expected.items():
            assert float(found[step]) == pytest.approx(float(value), rel=LOSS), (part, step)


def test_ethds_export_from_two_ranks_is_that_of_one_process_and_the_average_in_memory(ethd_alone, ethd_on_two):
    one, two = (load_artifact(export(folder)).ethd.state_dict() for folder in (ethd_alone, ethd_on_two))
    average = torch.load(ethd_on_two / "average.pt", weights_only=True)
    assert set(average) == set(one)
    for name, weight in one.items():
        assert torch.equal(two[name], average[name]), name
        torch.testing.assert_close(two[name], weight, atol=EXPORT, rtol=0, msg=name)


@needs_deepspeed
def test_a_deepspeed_run_goes_on_with_as_many_ranks_or_says_what_else(shards, one_process, tmp_path):
    def under(strategy, ranks, *changes, status=0):
        command = [sys.executable, "tests/helpers/train_under.py", strategy, ranks, str(shards), str(tmp_path), *ETHD]
        command += [f"vaid={one_process}", "run_id=zero", *changes]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stderr

    folder = tmp_path / "ethd" / "zero"
    under("deepspeed", "2", "trainer.max_steps=4")
    kept = torch.load(folder / "average.pt", weights_only=True)
    said = under("deepspeed", "1", "ckpt_path=last", status=1)
    assert "its optimizer's states are in 2 parts, one for each rank that wrote it, and this run has 1 ranks" in said
    assert "trainer.strategy=ddp cannot go on from" in under("ddp", "1", "ckpt_path=last", status=1)
    under(
        "deepspeed",
        "1",
        "ckpt_path=last",
        "resume.reset_optimizer=true",
        "trainer.max_steps=5",
        "model.lr=0",
        "resume.allow_config_change=true",
    )
    assert sorted(logged(folder, "train/loss")) == [0, 1, 2, 3, 4]
    again = torch.load(folder / "average.pt", weights_only=True)
    weights = read_checkpoint(folder / "checkpoints" / "last.ckpt", "ethd")["state_dict"]
    for name, weight in kept.items():  # at learning rate 0 the average moves half-way to the weights, which stand still
        torch.testing.assert_close(again[name], (weight + weights[f"ethd.{name}"]) / 2, msg=name)


PRECISIONS = {
    "ddp 32-true": "torch.float32", "ddp bf16-mixed": "torch.float32", "ddp bf16-true": "torch.bfloat16",
    "deepspeed bf16-mixed": "torch.bfloat16", "deepspeed 32-true autocast": "torch.float32",
}  # fmt: skip


@pytest.mark.parametrize("case", PRECISIONS)
def test_losses_and_noise_levels_are_float32(shards, one_process, tmp_path, monkeypatch, case):
    strategy, precision, *autocast = case.split()
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    monkeypatch.setenv("DTYPES", str(tmp_path / "dtypes.json"))
    changes = ["trainer.deepspeed.autocast=true"] if autocast else []
    under = ["tests/helpers/train_under.py", strategy, "1", str(shards), str(tmp_path)]
    train(*under, *ETHD, f"vaid={one_process}", "run_id=a", f"trainer.precision={precision}", *changes)
    found = json.loads((tmp_path / "dtypes.json").read_text())
    assert found.pop("weights") == [[PRECISIONS[case]], True]
    assert set(found) == {"velocity_loss", "noise_input", "time_proj"}
    for name, (dtypes, equal) in found.items():
        assert dtypes == ["torch.float32"], name
        assert equal, name


@pytest.mark.parametrize("case", ["ddp bf16-mixed", "deepspeed 32-true autocast"])
def test_clubs_and_info_nces_losses_are_float32(shards, tmp_path, monkeypatch, case):
    strategy, precision, *autocast = case.split()
    if strategy == "deepspeed":
        pytest.importorskip("deepspeed")
    monkeypatch.setenv("DTYPES", str(tmp_path / "dtypes.json"))
    changes = ["trainer.deepspeed.autocast=true"] if autocast else []
    under = ["tests/helpers/train_under.py", strategy, "1", str(shards), str(tmp_path)]
    train(*under, *SETTINGS, "run_id=a", f"trainer.precision={precision}", *changes)
    found = json.loads((tmp_path / "dtypes.json").read_text())
    assert set(found) == {"club_terms", "info_nce", "squared_error"}
    for name, result in found.items():
        assert result == [["torch.float32"], True], name
