"""Results of nightly checks: written as they end, with the commit and the code that decides them."""

import json
import subprocess

import pytest
from rich.console import Console

from tools.nightly.__main__ import Recorder
from tools.nightly.measured import MeasuredCheck, ResultError, code_of, current_commit, read_results
from tools.nightly.nightly_plan import NightlyCheck, Number
from tools.pipeline.run_steps import StepResult
from tools.pipeline.step import Step

WHEN = "2026-11-22T20:00:00+00:00"


@pytest.fixture
def clone(tmp_path):
    """A repository with the folders model and docs."""
    root = tmp_path / "clone"
    for name in ("model/net.py", "docs/page.md"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text("1\n")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture
def check(tmp_path):
    step = Step("score", "what it predicts", ("-m", "score"), stdout=tmp_path / "score.json")
    step.stdout.write_text(json.dumps({"r2": 0.4}))
    return NightlyCheck(step, "V-AID", (Number("R²", "r2"), Number("none", "x")), "score", ("model",))


def recorder(clone, check, tmp_path):
    return Recorder([check], Console(), clone, tmp_path / "results")


def test_a_result_has_its_numbers_commit_and_code(clone, check, tmp_path):
    recorder(clone, check, tmp_path)(StepResult(check.step, "done", 75.04, 60, WHEN))
    found = read_results(tmp_path / "results", ["score", "other"])
    assert found.keys() == {"score"}
    assert found["score"].numbers == {"R²": 0.4, "none": None}
    assert (found["score"].seconds, found["score"].commit) == (75.0, current_commit(clone))
    assert found["score"].code == code_of(clone, ["model"])
    (clone / "docs" / "page.md").write_text("2\n")
    assert current_commit(clone) == found["score"].commit + "+"
    assert found["score"].code == code_of(clone, ["model"])


@pytest.mark.parametrize("change", ["write", "remove", "add"])
def test_a_change_of_the_code_while_a_check_runs_is_not_recorded(clone, check, tmp_path, change, capsys):
    record = recorder(clone, check, tmp_path)
    if change == "write":
        (clone / "model" / "net.py").write_text("2\n")
    elif change == "remove":
        (clone / "model" / "net.py").unlink()
    else:
        (clone / "model" / "more.py").write_text("")
        subprocess.run(["git", "add", "."], cwd=clone, check=True)
    record(StepResult(check.step, "done", 75, 60, WHEN))
    assert not (tmp_path / "results" / "score.json").exists()
    assert "not recorded score: files of model changed while it ran" in " ".join(capsys.readouterr().out.split())


def test_a_failure_removes_the_earlier_result_and_a_waiting_check_keeps_it(clone, check, tmp_path):
    record, path = recorder(clone, check, tmp_path), tmp_path / "results" / "score.json"
    record(StepResult(check.step, "done", 75, 60, WHEN))
    for state in ("done before", "waiting"):
        record(StepResult(check.step, state))
        assert path.exists()
    record(StepResult(check.step, "failed", reason="ended with status 1"))
    assert not path.exists()


def test_damaged_results_and_unknown_code_are_refused(clone, tmp_path):
    (tmp_path / "score.json").write_text('{"finished": ""}')
    with pytest.raises(ResultError, match=r"score\.json: not a result of a nightly check .* remove it"):
        MeasuredCheck.read(tmp_path / "score.json")
    with pytest.raises(ResultError, match=r"commands\.yaml: code: modle has no file in git"):
        code_of(clone, ["modle"])
    with pytest.raises(ResultError, match="git ls-files failed; nightly checks run in a clone"):
        code_of(tmp_path, ["model"])
