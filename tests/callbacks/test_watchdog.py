"""A rank that dies, hangs, fails or has a NaN loss: all ranks exit and name it, and the run can be resumed."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.helpers import ROOT
from tests.helpers.processes import children
from tests.helpers.train_config import SMALLEST, logged, train_vaid
from tests.helpers.warm import Popen, free_port, run_ranks

SETTINGS = ("experiment=vaid/tiny", *SMALLEST, "trainer.max_steps=6", "run_id=two", "checkpoints.every=2")
STEP = 4


def train(fault, shards, output, *changes, ranks=2, started=None):
    """Starts the ranks as srun does, without a launcher that ends them; returns exit statuses and standard errors."""
    command = [sys.executable, "tests/helpers/train_faulty.py", fault, *SETTINGS, f"data.root={shards}"]
    command += [f"output={output}", f"trainer.devices='{ranks}'", f"trainer.strategy={'ddp' if ranks > 1 else 'auto'}"]
    done = run_ranks([*command, *changes], ranks, started)
    return [rank.returncode for rank in done], [rank.stderr for rank in done]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "status", "message"),
    [
        *(
            pytest.param(*case, marks=pytest.mark.nightly)
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
def test_all_ranks_exit_and_name_the_faulty_one(shards, tmp_path, fault, status, message):
    statuses, errors = train(fault, shards, tmp_path, "watchdog.step_minutes=0.2")
    wrong = int(fault[0])
    assert statuses[wrong] == status
    assert statuses[1 - wrong] == 1
    assert re.search(message, errors[1 - wrong]), errors[1 - wrong]
    statuses, errors = train("none", shards, tmp_path, "ckpt_path=last")
    assert statuses == [0, 0], errors
    assert sorted(logged(tmp_path / "vaid" / "two", "train/loss")) == list(range(6))


@pytest.mark.slow
@pytest.mark.nightly
def test_a_single_process_without_data_exits(shards, tmp_path):
    (status,), (errors,) = train("0:4:stall", shards, tmp_path, "watchdog.step_minutes=0.1", ranks=1)
    assert status == 1
    assert "rank 0 (" in errors
    assert "step 4, clips clip_" in errors
    assert "waiting for the batch for" in errors
    stacks = (tmp_path / "vaid" / "two" / "stacks_rank0.txt").read_text()
    assert "reading" in stacks  # the function that hangs


@pytest.mark.slow
def test_a_rank_exits_if_the_others_do_not_connect(shards, tmp_path):
    (status,), (errors,) = train("none", shards, tmp_path, "watchdog.join_minutes=0.1", started=1)
    assert status == 1
    message = r"rank 0 .* waiting for the other ranks for \d+ s .*connect to 127\.0\.0\.1:\d+.*SOCKET_IFNAME"
    assert re.search(message, errors)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_rank_that_waits_for_the_others_can_be_stopped(shards, tmp_path, number):
    command = [sys.executable, "tests/helpers/train_faulty.py", "none", *SETTINGS, f"data.root={shards}"]
    command += [f"output={tmp_path}", "trainer.devices='2'", "trainer.strategy=ddp"]
    variables = {"LOCAL_RANK": "0", "WORLD_SIZE": "2", "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, **variables, "MASTER_PORT": str(free_port()), "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with Popen(command, env=environment, **pipes) as rank:
        while not (line := rank.stdout.readline()).startswith("run "):
            assert line
        time.sleep(2)
        rank.send_signal(number)
        _, errors = rank.communicate(timeout=30)
    assert rank.returncode == 128 + number
    assert errors.endswith("Stopped while waiting for the other ranks.\n")
    assert "Traceback" not in errors


@pytest.mark.slow
def test_ranks_that_lightning_started_end_with_the_first(shards, tmp_path):
    """The first rank is killed while the second one still imports, so that it would wait for the first one."""
    command = [sys.executable, "train.py", *SETTINGS, f"data.root={shards}", f"output={tmp_path}"]
    command += ["trainer=cpu", "trainer.devices='2'", "trainer.strategy=ddp"]
    with Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        ranks = []
        while not ranks:
            assert first.poll() is None
            ranks = children(first.pid, "train.py")
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
    assert psutil.wait_procs(ranks, 120)[1] == []


@pytest.mark.slow
def test_a_run_without_faults_is_not_interrupted(shards, tmp_path):
    assert not list(train_vaid(shards, tmp_path, "run_id=a", "watchdog.step_minutes=1", steps=2).folder.glob("stacks*"))
