"""Three kills in small, for who changes the check itself; ``make nightly`` does twenty."""

import pytest

from runtime.errors import UserError
from tests.helpers.refusals import refuses
from tools.nightly.kill_ranks import check_kills, compare, job, losses


@pytest.mark.nightly
def test_three_kills_lose_at_most_a_save_interval(shards, tmp_path):
    lines = check_kills(str(shards), str(tmp_path), kills=3)
    assert sum(" killed " in line for line in lines) == 3
    assert sum("equal" in line for line in lines) == 4
    assert any(" a save " in line for line in lines)
    assert any(" in a step " in line for line in lines)


def log_of(folder, losses_of):
    path = folder / "csv" / "metrics.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("step,train/loss\n" + "".join(f"{step},{loss}\n" for step, loss in losses_of))


def test_the_check_can_fail(shards, tmp_path):
    one, other = (job("vaid", 1, 0, str(shards), str(tmp_path), name) for name in ("one", "other"))
    log_of(one.folder, [(0, 0.5), (1, 0.25)])
    log_of(other.folder, [(0, 0.5), (1, 0.25001)])
    refuses(UserError, "losses differ", compare, one, other)
    log_of(other.folder, [(0, 0.5), (0, 0.5)])
    refuses(UserError, "steps twice", losses, other.folder)
