"""The same losses and weights from one process, two under DDP, and two under DeepSpeed's ZeRO-2."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_modules.vaid.checkpoint import load_vaid
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


@pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="needs pip install 'emotivetalk[deepspeed]'")
def test_deepspeed(shards, tmp_path, one_process):
    train("tests/helpers/train_under.py", "deepspeed", "2", str(shards), str(tmp_path), *SETTINGS, "run_id=zero")
    folder = tmp_path / "vaid" / "zero"
    assert (folder / "checkpoints" / "last.ckpt").is_dir()  # the engine's own layout
    check(folder, one_process)
