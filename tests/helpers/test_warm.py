"""Warm processes behave like ordinary ones: output, exit status, signals, folder and environment."""

import os
import signal
import subprocess
import sys

import pytest

from tests.helpers import ROOT, warm


def python(code: str, *typed: str, **options) -> subprocess.CompletedProcess:
    return warm.run([sys.executable, "-c", code, *typed], **options)


@pytest.mark.slow
def test_output_status_folder_and_environment_are_its_own(tmp_path):
    code = "import os, sys; print(ascii(sys.argv[1]), os.getcwd(), os.environ['X'], 'PATH' in os.environ); sys.exit(5)"
    done = python(code, "a b \udcff", cwd=tmp_path, env={"X": "y"})
    assert (done.returncode, done.stdout, done.stderr) == (5, f"'a b \\udcff' {tmp_path} y False\n", "")
    assert python("raise SystemExit('words')").stderr == "words\n"
    failed = python("1 / 0")
    assert failed.returncode == 1
    assert failed.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.slow
def test_random_numbers_differ_between_processes():
    code = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    one, two = (python(code).stdout.split() for _ in range(2))
    assert all(x != y for x, y in zip(one, two, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_warm_process(number):
    code = "import time; print('ready', flush=True); time.sleep(60)"
    process = warm.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    assert process.poll() is None
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in errors) == (number == signal.SIGINT)


@pytest.mark.slow
def test_a_timeout_ends_a_warm_process():
    with pytest.raises(subprocess.TimeoutExpired):
        python("import time; time.sleep(60)", timeout=0.5)


@pytest.mark.slow
def test_a_script_runs_as_the_main_module():
    done = warm.run([sys.executable, "prepare.py", "datset=mead"], cwd=ROOT)
    assert done.returncode == 2
    assert "no key 'datset'" in done.stderr
