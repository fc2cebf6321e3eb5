"""Chains of small commands: order, resuming, failures, and interrupts at any moment."""

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from runtime.ownership import ForeignFileError
from tests.helpers import ROOT
from tools.pipeline.display import format_duration
from tools.pipeline.run_steps import conclude, expected_seconds, next_step, run_chain
from tools.pipeline.step import ChainError, Step, StepRecord, elapsed

# Appends its output's name to a log, and writes its input in capitals.
COPY = (
    "import sys; a, b, log = sys.argv[1:]; open(log, 'a').write(b + '\\n'); open(b, 'w').write(open(a).read().upper())"
)


@pytest.fixture
def chain(tmp_path):
    folder = tmp_path / "chain"
    folder.mkdir()
    (folder / "a").write_text("hello")

    def copy(source, target, code=COPY, **keys):
        command = ("-c", code, str(folder / source), str(folder / target), str(folder / "log"))
        return Step(target, f"Make {target}", command, (folder / source,), (folder / target,), **keys)

    return folder, copy


def run(steps, folder, **keys):
    output = io.StringIO()
    results = run_chain(steps, folder, Console(file=output, width=200), **keys)
    return [result.state for result in results], output.getvalue()


def ran(folder):
    return [Path(line).name for line in (folder / "log").read_text().split()]


def test_finished_steps_are_kept_and_changed_ones_run_again(chain):
    folder, copy = chain
    steps = [copy("a", "b"), copy("b", "c")]
    states, message = run(steps, folder)
    assert states == ["done", "done"]
    assert (folder / "c").read_text() == "HELLO"
    assert steps[0].typed in message
    assert "Step 2 of 2" in message
    assert run(steps, folder)[0] == ["done before"] * 2
    (folder / "a").write_text("HELLO")  # gives the same b, so c is still up to date
    assert run(steps, folder)[0] == ["done", "done before"]
    (folder / "a").write_text("world")
    assert run(steps, folder)[0] == ["done", "done"]
    (folder / "c").unlink()
    assert run(steps, folder)[0] == ["done before", "done"]
    assert ran(folder) == ["b", "c", "b", "b", "c", "c"]


def test_files_of_others_are_neither_removed_nor_replaced(chain):
    folder, copy = chain
    (folder / "b").write_text("annotations of a year")
    with pytest.raises(ForeignFileError, match=r"step b: .*b was not written by this program and is not replaced"):
        run([copy("a", "b")], folder)
    assert (folder / "b").read_text() == "annotations of a year"
    (folder / "b").unlink()
    assert run([copy("a", "b")], folder)[0] == ["done"]
    (folder / "a").write_text("world")
    assert run([copy("a", "b")], folder)[0] == ["done"]  # its own is replaced


def test_a_failure_ends_the_chain_or_the_dependent_steps(chain):
    folder, copy = chain
    steps = [copy("a", "b", "raise SystemExit('no luck today')"), copy("b", "c"), copy("a", "d")]
    states, message = run(steps, folder)
    assert states == ["failed"]
    assert "no luck today" in message
    assert "status 1" in message
    states, message = run(steps, folder, keep_going=True)
    assert states == ["failed", "waiting", "done"]
    assert "b: does not exist" in message


def test_a_missing_output_is_a_failure_and_other_statuses_can_be_accepted(chain):
    folder, copy = chain
    states, message = run([copy("a", "b", "pass")], folder)
    assert states == ["failed"]
    assert "did not write" in message
    assert run([copy("a", "b", COPY + "; sys.exit(4)", accepted=(0, 4))], folder)[0] == ["done"]


def test_standard_output_is_kept_only_after_success(chain):
    folder, _ = chain
    well = Step("well", "Well", ("-c", "print('42')"), stdout=folder / "well.txt")
    badly = Step("badly", "Badly", ("-c", "print('43'); raise SystemExit(1)"), stdout=folder / "badly.txt")
    states, message = run([well, badly], folder)
    assert states == ["done", "failed"]
    assert (folder / "well.txt").read_text() == "42\n"
    assert not (folder / "badly.txt").exists()
    assert "43" in message  # the end of the log
    assert not list(folder.glob(".*partial*"))


def test_outputs_of_another_command_are_removed_and_own_ones_kept(chain):
    folder, copy = chain
    resuming = (
        "import sys, os; b = sys.argv[2]; os.makedirs(b, exist_ok=True); n = len(os.listdir(b));"
        "open(b + f'/{n}', 'w').close(); sys.exit(n < 1)"
    )
    first = copy("a", "b", resuming)
    assert run([first], folder)[0] == ["failed"]
    assert run([first], folder)[0] == ["done"]  # resumed the first attempt
    assert len(list((folder / "b").iterdir())) == 2
    other = copy("a", "b", resuming + "  # other")
    assert run([other], folder)[0] == ["failed"]  # started anew
    assert len(list((folder / "b").iterdir())) == 1


# Writes its output when the output of the other step exists.
MEET = """
import sys, time, os
mine, other = sys.argv[1:]
open(mine, 'w').close()
deadline = time.monotonic() + 60
while not os.path.exists(other):
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""


def test_steps_that_share_the_cores_run_at_the_same_time(chain):
    folder, copy = chain
    names = {"b": "c", "c": "b"}
    meet = [
        Step(
            mine,
            f"Make {mine}",
            ("-c", MEET, str(folder / mine), str(folder / other)),
            writes=(folder / mine,),
            cores=1,
        )
        for mine, other in names.items()
    ]
    ended = []
    states, message = run(
        [*meet, copy("b", "d", cores=1)], folder, cores=2, ended=lambda one: ended.append(one.step.name)
    )
    assert states == ["done"] * 3
    assert sorted(ended[:2]) == ["b", "c"]
    assert ended[2] == "d"
    assert "b  done in 0:" in message
    assert run(meet, folder, cores=2)[0] == ["done before"] * 2


def test_which_step_starts_next(tmp_path):
    def step(name, cores=1, reads=()):
        return Step(name, name, (), tuple(tmp_path / one for one in reads), (tmp_path / name,), cores=cores)

    one, two, three, alone = step("one"), step("two"), step("three"), step("alone", None)
    part, after = step("one/part"), step("after", reads=["one/part"])
    assert next_step([one, two], [], None) is one
    assert next_step([two], [one], None) is None
    assert next_step([two, three], [one], 2) is two
    assert next_step([three], [one, two], 2) is None
    assert next_step([alone, two], [one], 2) is two  # the free core is used
    assert next_step([alone, two], [], 2) is alone
    assert next_step([two], [alone], 2) is None
    assert next_step([after, two], [one], 2) is two
    assert next_step([part, after, two], [one], 2) is two
    assert next_step([after], [], 2) is after
    assert next_step([step("many", 8)], [], 2).cores == 8
    assert next_step([], [], 2) is None


def test_the_expected_duration_is_that_of_the_order_in_which_steps_run(tmp_path):
    def step(name, seconds, cores=1, reads=()):
        return Step(name, name, (), reads, (tmp_path / name,), seconds=seconds, cores=cores)

    steps = [step("alone", 10, None), step("one", 5), step("two", 3), step("after", 4, reads=(tmp_path / "two",))]
    assert expected_seconds(steps, None) == 22
    assert expected_seconds(steps, 1) == 22
    assert expected_seconds(steps, 2) == 17
    assert expected_seconds([*steps, step("unknown", None)], 2) == 17
    assert expected_seconds([], 2) == 0


def test_the_duration_of_a_chain_counts_steps_that_run_at_the_same_time_once(chain):
    at = "2026-11-22T20:00:{:02d}+00:00".format
    assert elapsed([(at(10), 10.0), (at(12), 10.0), (at(30), 5.0), (at(29), 1.0)]) == pytest.approx(17)
    assert elapsed([]) == 0
    folder, _ = chain
    steps = [
        Step(name, name, ("-c", "import time; time.sleep(1.5)"), stdout=folder / name, cores=1)
        for name in ("one", "two")
    ]
    results = run_chain(steps, folder, Console(file=io.StringIO()), cores=2)
    spent = elapsed((result.finished, result.seconds) for result in results)
    assert 1.5 < spent < sum(result.seconds for result in results)
    output = io.StringIO()
    assert conclude(results, folder / "page.html", Console(file=output, width=200)) == 0
    assert f"All done in {format_duration(spent)}, " in output.getvalue()


def test_processor_time_is_that_of_the_step(chain):
    folder, _ = chain
    work = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"
    busy, idle = (
        Step(name, name, ("-c", code), stdout=folder / name, cores=1)
        for name, code in (("busy", work), ("idle", "import time; time.sleep(1)"))
    )
    results = run_chain([busy, idle], folder, Console(file=io.StringIO()), cores=2)
    assert results[0].processor_seconds > 0.5 > results[1].processor_seconds


PROGRAM = """
import sys
from pathlib import Path
from rich.console import Console
from configs.options import run_script
from tools.pipeline.run_steps import next_step, run_chain
from tools.pipeline.step import Step
folder = Path(sys.argv[1])
wait = "import sys, time; open(sys.argv[1], 'a').write('x'); time.sleep(float(sys.argv[2]))"
step = Step("wait", "Wait", ("-c", wait, str(folder / "marks"), sys.argv[2]), writes=(folder / "marks",), cores=1)
other = Step("other", "Other", ("-c", wait, str(folder / "others"), sys.argv[2]), writes=(folder / "others",), cores=1)
run_script(lambda: run_chain([step, other], folder, Console(), cores=2))
"""


def test_a_signal_while_a_command_starts_ends_that_command(chain, monkeypatch):
    folder, copy = chain
    started = []

    class Slow(subprocess.Popen):
        def __init__(self, *arguments, **keys):
            super().__init__(*arguments, **keys)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Slow)
    monkeypatch.setattr("tools.pipeline.command.CTRL_C_GRACE", 0.1)
    with pytest.raises(KeyboardInterrupt):
        run([copy("a", "b", "import time; time.sleep(60)")], folder)
    assert started[0].poll() is not None


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_chain_resumes_and_never_runs_twice_at_once(tmp_path, number):
    folder = tmp_path / "chain"
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), "3" if number == signal.SIGKILL else "60"], cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )  # fmt: skip
    while not all((folder / name).exists() and (folder / name).stat().st_size for name in ("marks", "others")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == (-9 if number == signal.SIGKILL else 128 + number)
    step = Step("wait", "Wait", ("-c", "pass"), writes=(folder / "marks",))
    for name in ("wait", "other"):
        assert StepRecord.read(folder, replace(step, name=name)).done is False
    if number == signal.SIGKILL:  # the command outlives the chain and holds the lock
        with pytest.raises(ChainError, match="another run"):
            run([step], folder)
        deadline = time.monotonic() + 60
        while True:
            try:
                run([step], folder)
                break
            except ChainError:
                assert time.monotonic() < deadline
                time.sleep(0.2)
    assert subprocess.run([sys.executable, "-c", PROGRAM, str(folder), "0"], cwd=ROOT, check=False).returncode == 0
    assert os.path.getsize(folder / "marks") == 1  # another command, so it started anew
