"""Losses and weights of a run in micro-batches are those of any number of ranks, under DDP and DeepSpeed."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch

from configs.errors import ConfigError
from configs.rules import check
from lightning_modules.ethd.checkpoint import load_ethd
from lightning_modules.ethd.export import export, load_export
from lightning_modules.vaid.checkpoint import load_vaid
from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST, SMALLEST_ETHD, logged, train, train_config
from tests.helpers.warm import run_ranks

pytestmark = pytest.mark.timeout(900)

STEPS = 4
COMMON = (
    "data.batch_size=6",
    "model.lr=1e-5",
    "model.lr_warmup=0",
    f"trainer.max_steps={STEPS}",
    "trainer.devices=auto",
)
# Clips of 30, 40 and 50 frames: windows of 30 and 40 frames.
ETHD = (
    *("experiment=ethd/tiny", *SMALLEST_ETHD, *COMMON, "data.window=40"),
    *("model.lip_dropout=0.4", "model.expression_dropout=0.3"),
)
VAID = ("experiment=vaid/tiny", *SMALLEST, *COMMON, "model.club.weight=1", "model.club.lr=1e-5", "model.club.warmup=1")
# Relative difference of losses. Runs differ only in the order of float32 sums.
LOSS = 1e-6
needs_deepspeed = pytest.mark.skipif(not importlib.util.find_spec("deepspeed"), reason="needs '.[deepspeed]'")


def on_ranks(strategy: str, ranks: int, folder: Path, *typed: str) -> Path:
    """Trains on gloo ranks and returns the run directory."""
    command = [sys.executable, "tests/helpers/train_under.py", strategy, *typed, f"run_id={strategy}{ranks}"]
    for rank in run_ranks(command, ranks):
        assert rank.returncode == 0, rank.stderr
    return folder / f"{strategy}{ranks}"


def equal_losses(one: Path, other: Path, *names: str, within: float = LOSS) -> None:
    for name in names:
        expected, found = logged(one, f"train/{name}"), logged(other, f"train/{name}")
        assert sorted(found) == sorted(expected) == list(range(STEPS))
        for step, value in expected.items():
            assert float(found[step]) == pytest.approx(float(value), rel=within, abs=within), (name, step)


def equal_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """AdamW may move a weight whose gradient consists of rounding errors by twice the learning rate per step."""
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=2 * STEPS * 1e-5, rtol=0, msg=name)
    difference = torch.cat([(other[name] - weight).abs().flatten() for name, weight in one.items()])
    assert difference.mean() < 1e-7


@pytest.fixture(scope="module")
def ethd_settings(shards, vaid, tmp_path_factory) -> tuple[Path, list[str]]:
    output = tmp_path_factory.mktemp("ethd")
    places = [f"data.root={shards}", f"output={output}", f"vaid={vaid}", "data.micro_batch=1"]
    return output / "ethd", [*ETHD, *places]


@pytest.fixture(scope="module")
def ethd_alone(ethd_settings) -> Path:
    """One process that accumulates over six micro-batches."""
    return train(*ethd_settings[1], "trainer.devices='1'", "run_id=one").folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        pytest.param("ddp", 2, marks=pytest.mark.nightly),
        ("ddp", 3),
        pytest.param("deepspeed", 2, marks=needs_deepspeed),
    ],
)
def test_ethd_accumulates_as_other_numbers_of_ranks(ethd_settings, ethd_alone, strategy, ranks):
    folder, typed = ethd_settings
    run = on_ranks(strategy, ranks, folder, *typed)
    equal_losses(ethd_alone, run, "loss", "x0_mse", "full_windows")
    assert any(0 < float(share) < 1 for share in logged(run, "train/full_windows").values())
    equal_weights(load_ethd(ethd_alone)[0].state_dict(), load_ethd(run)[0].state_dict())


@pytest.fixture(scope="module")
def many_shards(once) -> Path:
    """16 training clips of three lengths."""
    splits = ("train",) * 4 + ("val",)
    return once("many_shards", lambda folder: make_shards(folder, samples=20, frames=(30, 40, 50), splits=splits))


LARGE = [
    ("ddp", 8),
    pytest.param("deepspeed", 8, marks=needs_deepspeed),
    ("ddp", 16),
    pytest.param("deepspeed", 16, marks=needs_deepspeed),
]


@pytest.fixture(scope="module")
def large_ethd(many_shards, ethd_settings) -> tuple[Path, list[str], Path]:
    """Folder of the runs, their settings, and one process that accumulates over 16 micro-batches."""
    folder, typed = ethd_settings
    typed = [*typed, f"data.root={many_shards}", "data.batch_size=16"]
    return folder, typed, train(*typed, "trainer.devices='1'", "run_id=large").folder


@pytest.mark.nightly
@pytest.mark.parametrize(("strategy", "ranks"), LARGE)
def test_ethd_on_the_ranks_of_the_real_job(large_ethd, strategy, ranks):
    folder, typed, alone = large_ethd
    run = on_ranks(strategy, ranks, folder, *typed)
    equal_losses(alone, run, "loss", "x0_mse", "full_windows")
    equal_weights(load_ethd(alone)[0].state_dict(), load_ethd(run)[0].state_dict())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("strategy", "ranks", "later"),
    [("ddp", 2, 3), pytest.param("deepspeed", 3, 2, marks=needs_deepspeed)],
)
def test_a_run_continues_on_another_number_of_ranks(ethd_settings, ethd_alone, tmp_path, strategy, ranks, later):
    typed = [*ethd_settings[1], f"output={tmp_path}", "checkpoints.keep=9"]
    on_ranks(strategy, ranks, tmp_path / "ethd", *typed, "trainer.max_steps=2")
    checkpoint = f"ckpt_path={tmp_path / 'ethd' / f'{strategy}{ranks}' / 'checkpoints' / 'step=2.ckpt'}"
    run = on_ranks(strategy, later, tmp_path / "ethd", *typed, checkpoint)
    expected, found = logged(ethd_alone, "train/loss"), logged(run, "train/loss")
    assert sorted(found) == [2, 3]
    for step, value in found.items():
        assert float(value) == pytest.approx(float(expected[step]), rel=LOSS)
    equal_weights(load_ethd(ethd_alone)[0].state_dict(), load_ethd(run)[0].state_dict())


@pytest.mark.slow
def test_the_lengths_of_windows_are_shown_logged_and_exported(ethd_settings, ethd_alone, capsys):
    """A resumed run continues the counts."""
    typed = [*ethd_settings[1], "trainer.devices='1'", "run_id=twice"]
    train(*typed, "trainer.max_steps=2")
    shown = capsys.readouterr().out
    assert "batch       1 rank x 6 accumulated micro-batches x 1 clip\n" in shown
    assert re.search(r"windows     5\d% of the frames in windows of 40, the shortest has 30\n", shown)
    run = train(*typed, "ckpt_path=last")
    assert logged(run.folder, "train/loss") == logged(ethd_alone, "train/loss")
    frames = load_export(export(run.folder)).trained_windows
    dataset = run.data.train_dataloader().dataset
    assert frames == dataset.frames_by_length(range(STEPS))
    assert set(frames) == {30, 40}
    for step, share in logged(run.folder, "train/full_windows").items():
        of_step = dataset.frames_by_length(range(step, step + 1))
        assert float(share) == pytest.approx(of_step[40] / sum(of_step.values()))


def test_a_stage_that_does_not_accumulate_says_so(shards, tmp_path):
    typed = ["experiment=proxy/image", f"data.root={shards}", "trainer.devices='1'"]
    check(train_config(*typed, "data.batch_size=4", "data.micro_batch=4"))
    with pytest.raises(ConfigError, match="data.micro_batch=1: stage=proxy needs all clips of a rank in one forward"):
        check(train_config(*typed, "data.batch_size=4", "data.micro_batch=1"))


@pytest.fixture(scope="module")
def vaid_settings(shards, tmp_path_factory) -> tuple[Path, list[str]]:
    output = tmp_path_factory.mktemp("vaid")
    return output / "vaid", [*VAID, f"data.root={shards}", f"output={output}"]


@pytest.fixture(scope="module")
def vaid_alone(vaid_settings) -> Path:
    """One process that passes all clips at once."""
    return train(*vaid_settings[1], "trainer.devices='1'", "run_id=one").folder


PARTS = ("loss", "club", "club_nll", "lip_nce", "lip_mse", "expression_mse")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "ranks"),
    [
        pytest.param("auto", 1, marks=pytest.mark.nightly),
        pytest.param("ddp", 2, marks=pytest.mark.nightly),
        ("ddp", 3),
        pytest.param("deepspeed", 2, marks=needs_deepspeed),
    ],
)
def test_vaid_in_micro_batches_pairs_the_frames_of_the_whole_batch(vaid_settings, vaid_alone, strategy, ranks):
    folder, typed = vaid_settings
    run = on_ranks(strategy, ranks, folder, *typed, "data.micro_batch=1")
    equal_losses(vaid_alone, run, *PARTS)
    equal_weights(*(load_vaid(folder / "checkpoints" / "last.ckpt").state_dict() for folder in (vaid_alone, run)))


@pytest.fixture(scope="module")
def large_vaid(many_shards, vaid_settings) -> tuple[Path, list[str], Path]:
    """Folder of the runs, their settings, and one process that passes 16 clips at once."""
    folder, typed = vaid_settings
    typed = [*typed, f"data.root={many_shards}", "data.batch_size=16"]
    return folder, typed, train(*typed, "trainer.devices='1'", "run_id=large").folder


@pytest.mark.nightly
@pytest.mark.parametrize(("strategy", "ranks"), LARGE)
def test_vaid_on_the_ranks_of_the_real_job(large_vaid, strategy, ranks):
    folder, typed, alone = large_vaid
    run = on_ranks(strategy, ranks, folder, *typed, "data.micro_batch=1")
    equal_losses(alone, run, *PARTS)
    equal_weights(*(load_vaid(folder / "checkpoints" / "last.ckpt").state_dict() for folder in (alone, run)))
