"""A rank that dies, stalls, fails or loses its numbers: all ranks end, and say which it was; the run goes on after."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST
from tests.training.test_fit import logged, run

ROOT = Path(__file__).parents[2]
SETTINGS = ("experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=6", "run_id=two", "checkpoints.every=2")
STEP = 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shards"
    make_shards(folder, frames=(30, 40, 50), splits=("train", "train", "val"))
    return folder


def train(fault, shards, output, *changes, ranks=2, started=None):
    """Starts the ranks as srun does, without a launcher that would end them; returns status and errors of each."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "tests/helpers/train_faulty.py", fault, str(shards), str(output), *SETTINGS, *changes]
    command += [f"trainer.devices='{ranks}'", "trainer.strategy=" + ("ddp" if ranks > 1 else "auto")]
    processes = []
    for rank in range(started or ranks):
        env = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        env |= {"LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "PYTHONPATH": str(ROOT)}
        processes.append(subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=280)[1] for process in processes]
    return [process.returncode for process in processes], errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        *(
            pytest.param(*case, marks=pytest.mark.proof)
            for case in (
                ("1:4:die", -9, r"rank 1 \(.*, process \d+\), step 4, clips clip_.*: has died, last seen"),
                ("1:4:stall", 1, r"rank 1 \(.*\), step 4, clips clip_.*: waiting for the batch for \d+ s \(watchdog"),
                ("1:4:nan", 1, r"rank 1 \(.*\), step 4, clips clip_.*: UserError: step 4: the loss is nan"),
                ("1:4:raise", 1, r"rank 1 \(.*\), step 4, clips clip_.*: ShardError: shard-00000.tar is damaged"),
            )
        ),
        ("0:4:die", -9, r"rank 0 \(.*, process \d+\), step 4, clips clip_.*: has died, last seen"),
    ],
)
def test_all_ranks_end_and_name_the_one(shards, tmp_path, fault, status, message):
    statuses, errors = train(fault, shards, tmp_path, "watchdog.step_minutes=0.2")
    wrong = int(fault[0])
    assert statuses[wrong] == status
    assert statuses[1 - wrong] == 1
    assert re.search(message, errors[1 - wrong]), errors[1 - wrong]
    statuses, errors = train("none", shards, tmp_path, "ckpt_path=last")
    assert statuses == [0, 0], errors
    assert sorted(logged(tmp_path / "vaid" / "two", "train/loss")) == list(range(6))


@pytest.mark.slow
@pytest.mark.proof
def test_one_process_whose_data_do_not_come_ends(shards, tmp_path):
    (status,), (errors,) = train("0:4:stall", shards, tmp_path, "watchdog.step_minutes=0.1", ranks=1)
    assert status == 1
    assert "rank 0 (" in errors
    assert "step 4, clips clip_" in errors
    assert "waiting for the batch for" in errors
    stacks = (tmp_path / "vaid" / "two" / "stacks_rank0.txt").read_text()
    assert "reading" in stacks  # the function that does not come back


@pytest.mark.slow
def test_a_rank_that_nobody_joins_ends(shards, tmp_path):
    (status,), (errors,) = train("none", shards, tmp_path, "watchdog.join_minutes=0.1", started=1)
    assert status == 1
    assert re.search(
        r"rank 0 .* waiting for the other ranks for \d+ s .*meet at 127\.0\.0\.1:\d+.*SOCKET_IFNAME", errors
    )


@pytest.mark.slow
def test_a_run_that_goes_well_is_left_alone(shards, tmp_path):
    done = run(shards, tmp_path, "run_id=a", "watchdog.step_minutes=1", steps=2)
    assert not list(done.folder.glob("stacks*"))
