"""Three kills in small; ``make prove`` does twenty."""

import os

import pytest

from tests.helpers.shards import make_shards
from training.kill_proof import ProofError, compare, finish, job, losses, prove


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    make_shards(folder, frames=(30, 40, 50), splits=("train", "train", "val"))
    return folder


@pytest.mark.slow
def test_three_kills_lose_at_most_a_save_interval(shards, tmp_path):
    lines = prove(str(shards), str(tmp_path), kills=3)
    assert sum(" killed " in line for line in lines) == 3
    assert sum("equal" in line for line in lines) == 4
    assert any("in a save" in line for line in lines)


@pytest.mark.slow
def test_the_proof_can_fail(shards, tmp_path):
    one = job("vaid", 1, 0, str(shards), str(tmp_path), "one")
    other = job("vaid", 1, 0, str(shards), str(tmp_path), "other")
    other.config.seed = 1
    finish(one)
    finish(other)
    with pytest.raises(ProofError, match="losses differ"):
        compare(one, other)
    log = one.folder / "csv" / "metrics.csv"
    with log.open("a") as file:
        file.write(log.read_text().splitlines()[-1] + os.linesep)
    if len(losses(other.folder)):
        with pytest.raises(ProofError, match="steps twice"):
            compare(one, other)
