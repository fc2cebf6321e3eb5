"""The check of disturbed programs: what it finds, and a few disturbances of the real programs."""

import os
import random
import signal
import time
from collections import Counter

import pytest

from runtime.errors import UserError
from tools.nightly import chaos
from tools.nightly.chaos_programs import Program, left_behind
from tools.nightly.warm_commands import members

WORKER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
time.sleep(600)
"""


def test_what_is_left_is_found(tmp_path):
    left = [".lock", ".results.json.lock", ".x.mp4.host-1-00000000.partial", "last.ckpt.part"]
    for name in (*left, "x.mp4"):
        (tmp_path / name).touch()
    assert left_behind(tmp_path) == left


def test_the_table_counts_programs_and_kinds():
    done = Counter({"prepare/KILL": 2, "prepare/disk": 1, "train, DDP, 2 ranks/hole": 4})
    assert chaos.table(done, ["KILL", "disk", "hole"]) == [
        "| program | KILL | disk | hole | all |",
        "|---|---|---|---|---|",
        "| prepare | 2 | 1 | 0 | 3 |",
        "| train, DDP, 2 ranks | 0 | 0 | 4 | 4 |",
    ]


@pytest.mark.slow
def test_a_worker_that_outlives_its_command_is_a_failure(tmp_path):
    (tmp_path / "leaves.py").write_text(WORKER)
    program = Program("leaves", lambda output: [str(tmp_path / "leaves.py")], lambda output: None)
    state = chaos.Chaos(tmp_path, tmp_path, tmp_path, random.Random(0))
    (process,) = state.start(program, tmp_path)
    while len(members(process.pid)) < 2:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(UserError, match="leaves: 1 processes still ran 1 s after their command was ended"):
        chaos.wait_for_end([process], program, 1.0)
    end = time.monotonic() + 20
    while members(process.pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not members(process.pid)


@pytest.mark.slow
def test_the_log_of_a_command_that_does_not_end_has_its_stack(tmp_path):
    (tmp_path / "stuck.py").write_text("import time\ndef stuck():\n    print('here')\n    time.sleep(600)\nstuck()\n")
    program = Program("stuck", lambda output: [str(tmp_path / "stuck.py")], lambda output: None)
    state = chaos.Chaos(tmp_path, tmp_path, tmp_path, random.Random(0))
    processes, log = state.start(program, tmp_path), state.log(program, 0)
    while not (log.exists() and "here" in log.read_text()):
        time.sleep(0.05)
    with pytest.raises(UserError, match="their logs end with the stacks of their threads"):
        chaos.wait_for_end(processes, program, 0.5)
    assert "in stuck" in log.read_text()


@pytest.mark.nightly
def test_some_disturbances_change_nothing(tmp_path):
    lines = chaos.check(tmp_path, 12, 1, [], list(chaos.KINDS))
    assert sum("with equal results" in line for line in lines) == 6


def test_unknown_kinds_are_refused(tmp_path):
    with pytest.raises(UserError, match="kinds=flood: expected some of KILL,TERM"):
        chaos.main([f"output={tmp_path}", "kinds=flood"])
    assert not list(tmp_path.iterdir())
