"""Loader processes that the system ends, full shared memory and damaged shards: one line with a remedy."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from datamodules.loader import EvaluationLoader
from datamodules.loader_processes import fault_of_workers
from datamodules.schema import ShardError
from runtime.errors import UserError
from tests.helpers import ROOT, warm
from tests.helpers.processes import children
from tests.helpers.shards import make_shards
from tests.helpers.train_config import SMALLEST

TYPED = ("experiment=vaid/tiny", *SMALLEST, "trainer=cpu", "run_id=one", "data.workers=2", "trainer.progress_bar=false")


def error_of(done):
    assert done.returncode == 1
    assert "Traceback" not in done.stderr, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def training(shards, tmp_path, *changes):
    typed = [*TYPED, f"data.root={shards}", f"output={tmp_path}", *changes]
    return [sys.executable, "train.py", *typed]


@pytest.mark.slow
def test_a_loader_process_that_the_system_kills(shards, tmp_path):
    command = training(shards, tmp_path, "trainer.max_steps=100000", "checkpoints.every=5")
    log = tmp_path / "vaid" / "one" / "csv" / "metrics.csv"
    with warm.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        end = time.monotonic() + 200
        while not log.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
        forks = " ".join(psutil.Process(process.pid).cmdline())
        workers = children(process.pid, forks)
        os.kill(workers[0].pid, signal.SIGKILL)
        errors = process.communicate(timeout=120)[1]
    line = error_of(subprocess.CompletedProcess(command, process.returncode, "", errors))
    assert re.search(r"a loader process was ended by the system .*lower data\.workers", line)


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small /dev/shm")
def test_a_shared_memory_of_one_megabyte(shards, tmp_path):
    mounted = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", mounted, "sh", *training(shards, tmp_path, "trainer.max_steps=4")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounts are not allowed here")
    line = error_of(done)
    assert "/dev/shm" in line
    assert "--shm-size" in line
    assert "data.workers" in line


@pytest.mark.slow
def test_a_shard_cut_while_it_is_read(tmp_path):
    shards = tmp_path / "shards"
    make_shards(shards, frames=(30, 40, 50), splits=("train", "train", "val"))
    command = training(shards, tmp_path, "trainer.max_steps=100000")
    log = tmp_path / "vaid" / "one" / "csv" / "metrics.csv"
    with warm.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        end = time.monotonic() + 200
        while not log.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
        for shard in shards.glob("*.tar"):
            os.truncate(shard, 2000)
        errors = process.communicate(timeout=120)[1]
    line = error_of(subprocess.CompletedProcess(command, process.returncode, "", errors))
    assert re.search(r"\.tar", line)


class Damaged:
    def __len__(self):
        return 2

    def __getitem__(self, row):
        raise ShardError("shard-00000.tar is damaged")


def test_errors_of_loader_processes_keep_type_and_message():
    with pytest.raises(ShardError, match=r"^shard-00000\.tar is damaged$"):
        list(EvaluationLoader(Damaged(), workers=1))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", r"killed by signal: Killed\): with SIGKILL memory"),
        ("DataLoader worker (pid(s) 7, 8) exited unexpectedly", r"\(DataLoader worker \(pid\(s\) 7, 8\) exited"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible", "/dev/shm is full"),
        ("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)", "/dev/shm is full"),
    ],
)
def test_the_words_of_pytorch(text, words):
    error = ValueError("while saving")
    error.__cause__ = RuntimeError(text)
    assert re.search(words, fault_of_workers(error))
    assert fault_of_workers(UserError(text)) is None
    assert fault_of_workers(RuntimeError("another error")) is None
