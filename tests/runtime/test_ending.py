"""Signals end a command as Ctrl-C does, and no worker outlives its parent."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.helpers import ROOT

COMMAND = """
import os, sys, time
from configs.options import run_script

def main():
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), {again})
        time.sleep(0.1)
        print("tidied", flush=True)

run_script(main)
"""
WORKERS = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from runtime.ending import end_with_parent

def work(_):
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1]), end_with_parent)
    list(pool.map(work, range(2)))
"""


def start(code, *arguments, before=None):
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_tidily(number, status):
    def listening():
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = start(COMMAND.format(again=int(number if number != signal.SIGINT else 0)), before=listening)
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (status, "tidied\n")
    assert error == "\nStopped. Run the same command again to continue.\n"


@pytest.mark.slow
def test_nohup_is_respected():
    process = start(COMMAND.format(again=0), before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(tmp_path, method, number):
    (tmp_path / "workers.py").write_text(WORKERS)
    command = [sys.executable, tmp_path / "workers.py", method]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    parent.send_signal(number)
    parent.wait(10)
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{worker}") for worker in workers) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [worker for worker in workers if os.path.exists(f"/proc/{worker}")]
