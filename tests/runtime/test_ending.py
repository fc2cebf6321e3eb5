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
SWALLOWS = """
import sys, threading, time
from configs.options import run_script

def main():
    try:
        print("started", flush=True)
        time.sleep(60)
    except:  # as in packages that try to import another
        pass
    try:
        time.sleep(60)
    finally:
        time.sleep(2.5)
        print("tidied", flush=True)

run_script(main)
"""
IN_A_DESTRUCTOR = SWALLOWS.replace(
    """    try:
        print("started", flush=True)
        time.sleep(60)
    except:  # as in packages that try to import another
        pass
""",
    """    class Loop:  # as an event loop that is collected
        def __del__(self):
            print("started", flush=True)
            time.sleep(60)

    Loop()
""",
)
HALF_MADE = """
import sys, time
from configs.options import run_script

class Loop:  # as an event loop, which opens its pipe last
    def __init__(self):
        print("started", flush=True)
        time.sleep(60)
        self.pipe = open("/dev/null")

    def __del__(self):
        self.pipe.close()

def main():
    try:
        Loop()
    finally:
        print("tidied", flush=True)

run_script(main)
"""
THREAD = """
import threading, time
import runtime.ending
from configs.options import run_script

runtime.ending.EXIT_SECONDS = 1

def main():
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("started", flush=True)
    time.sleep(60)

run_script(main)
"""
NOTEBOOK = """
import signal, threading, time
import runtime.ending
from configs.options import run_script

runtime.ending.EXIT_SECONDS = 0.5

def main():
    signal.raise_signal(signal.SIGINT)

for _ in range(2):
    try:
        run_script(main)
    except SystemExit as error:
        print(error.code, flush=True)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt as error:
    print(type(error).__name__, flush=True)
time.sleep(2)
print("goes on", flush=True)

class Faulty:
    def __del__(self):
        raise ValueError("reported")

Faulty()
signal.raise_signal(signal.SIGTERM)
"""
LAUNCHES = """
import os, subprocess, sys, time
from runtime.ending import end_with_launcher

late = float(sys.argv[1])
if len(sys.argv) == 2:
    end_with_launcher()
    subprocess.Popen([sys.executable, __file__, sys.argv[1], "rank"], env={**os.environ, "LOCAL_RANK": "1"})
else:
    print(os.getpid(), flush=True)
    time.sleep(late)
    end_with_launcher()
time.sleep(60)
"""
WORKERS = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from runtime.ending import end_with_parent

def work(_):
    os.write(1, b"%d\\n" % os.getpid())  # at once, since both write to one pipe
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


def wait_for_end(processes):
    end = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{process}") for process in processes) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [process for process in processes if os.path.exists(f"/proc/{process}")]


@pytest.mark.slow
def test_a_notebook_that_ran_a_command_goes_on_and_has_its_signals_back():
    process = start(NOTEBOOK)
    printed, errors = process.communicate(timeout=60)
    assert printed.split("\n") == ["130", "130", "KeyboardInterrupt", "goes on", ""], errors
    assert process.returncode == -signal.SIGTERM
    assert "ValueError: reported" in errors


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
@pytest.mark.parametrize("script", [SWALLOWS, IN_A_DESTRUCTOR], ids=["except", "destructor"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_whose_exception_is_swallowed_is_repeated(number, script):
    process = start(script, before=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (128 + number, "tidied\n")
    assert error == "\nStopped. Run the same command again to continue.\n"


@pytest.mark.slow
def test_a_signal_in_a_constructor_is_no_fault_of_the_destructor():
    process = start(HALF_MADE)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    out, error = process.communicate(timeout=20)
    assert (process.returncode, out) == (128 + signal.SIGTERM, "tidied\n")
    assert error == "\nStopped. Run the same command again to continue.\n"


@pytest.mark.slow
def test_a_thread_does_not_keep_an_ended_command(tmp_path):
    process = start(THREAD)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("late", ["0", "4"])  # it imports for some seconds before it can look
def test_a_rank_ends_with_the_rank_that_started_it(tmp_path, late):
    (tmp_path / "ranks.py").write_text(LAUNCHES)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, tmp_path / "ranks.py", late]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    rank = int(first.stdout.readline())
    time.sleep(1.5)
    assert os.path.exists(f"/proc/{rank}")
    first.kill()
    first.wait()
    wait_for_end([rank])


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
    wait_for_end(workers)
