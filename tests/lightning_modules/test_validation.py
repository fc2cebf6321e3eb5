"""Validation on several ranks, with fewer clips than ranks, against one process."""

import sys
from pathlib import Path

import pytest

from configs.errors import ConfigError
from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST, SMALLEST_ETHD, logged, train_ethd, train_vaid
from tests.helpers.warm import run_ranks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # up to sixteen processes on shared cores
NAMES = {
    "vaid": ("val/lip_nce", "val/lip_mse", "val/expression_mse", "val/expression_mse_repeated"),
    "ethd": ("val/loss", "val/x0_mse", "val/loss_e_a", "val/x0_mse_e_a"),
}


def shards_with(validation: int, folder: Path) -> Path:
    """Shards with 16 training clips and ``validation`` validation clips."""
    make_shards(folder, frames=(30,), splits=("train",) * 16 + ("val",) * validation, samples=16 + validation, shards=1)
    return folder


def on_ranks(
    stage: str, ranks: int, shards: Path, output: Path, *typed: str, batch: int = 8
) -> dict[str, dict[int, float]]:
    """Trains two steps with a validation after each, and returns name -> step -> value of rank 0's log."""
    smallest = SMALLEST if stage == "vaid" else SMALLEST_ETHD
    settings = (
        f"experiment={stage}/tiny", *smallest, f"data.root={shards}", f"output={output}", f"run_id={ranks}",
        f"data.batch_size={batch}", "trainer.max_steps=2", "trainer.validate_every=1",
        "data.workers=0", "watchdog.other_minutes=2", "model.lr=1e-9", *typed,
    )  # fmt: skip
    command = [sys.executable, "tests/helpers/train_under.py", "ddp" if ranks > 1 else "auto", *settings]
    for rank in run_ranks(command, ranks):
        assert rank.returncode == 0, rank.stderr
    return {name: floats(output / stage / str(ranks), name) for name in NAMES[stage]}


def floats(folder: Path, name: str) -> dict[int, float]:
    return {step: float(value) for step, value in logged(folder, name).items()}


@pytest.mark.parametrize(
    ("stage", "ranks", "clips", "count"),
    [
        ("vaid", 2, 1, 2),  # one rank has only a repeated clip
        ("vaid", 6, 4, 16),
        pytest.param("vaid", 8, 3, 16, marks=pytest.mark.nightly),
        pytest.param("vaid", 16, 3, 16, marks=pytest.mark.nightly),
        pytest.param("vaid", 8, 12, 10, marks=pytest.mark.nightly),  # a number that the ranks do not divide
        ("ethd", 2, 1, 2),
        pytest.param("ethd", 8, 3, 16, marks=pytest.mark.nightly),
        pytest.param("ethd", 16, 3, 16, marks=pytest.mark.nightly),
    ],
)
def test_values_do_not_depend_on_the_number_of_ranks(vaid, tmp_path, stage, ranks, clips, count):
    shards = shards_with(clips, tmp_path / "shards")
    best = "val/lip_mse" if stage == "vaid" else "val/loss"
    typed = [f"trainer.validation_clips={count}", f"checkpoints.best={best}", "checkpoints.keep=9"]
    typed += [f"vaid={vaid}"] if stage == "ethd" else []
    batch = 8 if ranks in (2, 8) else ranks
    one, several = (on_ranks(stage, number, shards, tmp_path, *typed, batch=batch) for number in (1, ranks))
    for name, values in one.items():
        assert len(values) == 2, name
        assert several[name] == pytest.approx(values, rel=1e-5), name
    assert (tmp_path / stage / str(ranks) / "checkpoints" / "best.ckpt").exists()


def test_the_number_of_clips_is_that_over_all_ranks(vaid, tmp_path):
    """The mean over one clip of three differs from that over all; two ranks must not validate two."""
    shards = shards_with(3, tmp_path / "shards")
    typed = ("trainer.validation_clips=1",)
    one, two = (on_ranks("vaid", number, shards, tmp_path, *typed)["val/expression_mse_repeated"] for number in (1, 2))
    every = on_ranks("vaid", 1, shards, tmp_path / "all", "trainer.validation_clips=3")["val/expression_mse_repeated"]
    assert two == pytest.approx(one, rel=1e-5)
    assert one[0] != pytest.approx(every[0], rel=1e-3)


def test_no_validation_clips_are_no_error(tmp_path):
    done = train_vaid(
        shards_with(0, tmp_path / "shards"), tmp_path, "run_id=none", "checkpoints.best=val/lip_mse", steps=3
    )
    assert not [name for name in done.trainer.callback_metrics if name.startswith("val/")]
    assert (done.folder / "checkpoints" / "last.ckpt").exists()


def test_best_of_a_value_that_is_not_validated_names_those_that_are(shards, vaid, tmp_path):
    message = r"checkpoints\.best=val/los: not a validated value; choose one of val/loss, val/loss_e_a, val/v_mse, "
    with pytest.raises(ConfigError, match=message):
        train_ethd(shards, vaid, tmp_path, "run_id=a", "checkpoints.best=val/los", steps=3)
