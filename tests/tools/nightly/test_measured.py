"""Results of nightly checks: written as they end, with the commit and the code that decides them."""

import json
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console

from tools.nightly.__main__ import Recorder
from tools.nightly.measured import MeasuredCheck, ResultError, code_of, current_commit, read_results
from tools.nightly.nightly_plan import NightlyCheck, Number
from tools.nightly.nightly_report import results_page
from tools.nightly.result_figures import PROBE, RETENTION, draw_club, read_curves, write_figures
from tools.pipeline.run_steps import StepResult
from tools.pipeline.step import Step

WHEN = "2026-11-22T20:00:00+00:00"


@pytest.fixture
def clone(tmp_path):
    """A repository with the folders model and docs."""
    root = tmp_path / "clone"
    for name in ("model/net.py", "docs/page.md", "docs/results.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
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
    (clone / "docs" / "results.md").write_text("2\n")
    assert current_commit(clone) == found["score"].commit
    (clone / "docs" / "page.md").write_text("2\n")
    assert current_commit(clone) == found["score"].commit + "+"
    assert found["score"].code == code_of(clone, ["model"])


def test_a_picture_is_copied_to_the_others_and_shown(clone, check, tmp_path):
    check = replace(check, picture=tmp_path / "drawn.png")
    check.picture.write_bytes(b"picture")
    pictures = tmp_path / "pictures"
    record = Recorder([check], Console(), clone, tmp_path / "results", pictures)
    record(StepResult(check.step, "done", 75.04, 60, WHEN))
    found = read_results(tmp_path / "results", ["score"])
    assert found["score"].picture == "score.png"
    assert (pictures / "score.png").read_bytes() == b"picture"
    assert "![What it predicts](results/score.png)" in results_page([check], found)
    plain = {"score": replace(found["score"], picture="")}
    assert "results/score.png" not in results_page([check], plain)


def test_tables_are_copied_with_their_values_and_the_newest_is_named(clone, check, tmp_path):
    checks, kept = [], tmp_path / "kept"
    table = tmp_path / "table2.md"
    for seed in (0, 1):
        table.write_text(f"{seed + 1} seeds\n")
        table.with_suffix(".csv").write_text(f"{seed}\n")
        checks.append(replace(check, step=replace(check.step, name=f"seed_{seed}"), table=table))
        record = Recorder(checks, Console(), clone, tmp_path / "results", kept)
        record(StepResult(checks[-1].step, "done", 75.04, 60, WHEN.replace("22T", f"2{seed + 2}T")))
    assert {path.name: path.read_text() for path in kept.iterdir()} == {"table2.md": "2 seeds\n", "table2.csv": "1\n"}
    found = read_results(tmp_path / "results", ["seed_0", "seed_1"])
    page = results_page(checks, found)
    assert page.count("[table2.md](results/table2.md), each value with its source in [table2.csv](") == 1
    assert f"(results/table2.csv): 2026-11-23, {found['seed_1'].commit}" in page
    assert "results/table2.md" not in results_page(checks, {**found, "seed_0": replace(found["seed_0"], code="old")})


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


def test_results_of_other_checks_are_no_change_of_the_code(clone, check, tmp_path):
    record = recorder(clone, replace(check, code=("docs",)), tmp_path)
    (clone / "docs" / "results.md").write_text("2\n")
    record(StepResult(check.step, "done", 75, 60, WHEN))
    assert (tmp_path / "results" / "score.json").exists()


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
    with pytest.raises(ResultError, match=r"commands\.yaml: code: nowhere has no file in git"):
        code_of(clone, ["nowhere"])
    with pytest.raises(ResultError, match="git ls-files failed; nightly checks run in a clone"):
        code_of(tmp_path, ["model"])


def test_a_training_has_its_losses(clone, tmp_path):
    run = tmp_path / "run"
    (run / "csv").mkdir(parents=True)
    rows = [f"{step},{1 / (step + 1)}," for step in range(0, 400, 4)] + ["399,,0.5"]
    (run / "csv" / "metrics.csv").write_text("step,train/loss,val/loss\n" + "\n".join(rows) + "\n")
    training = NightlyCheck(Step("train", "a training", ("train.py",), writes=(run,)), "V-AID", code=("model",))
    recorder(clone, training, tmp_path)(StepResult(training.step, "done", 75, 60, WHEN))
    text = (tmp_path / "results" / "train.json").read_text()
    found = MeasuredCheck.read(tmp_path / "results" / "train.json").curves
    assert found["val/loss"] == [[400, 0.5]]
    assert [step for step, _ in found["train/loss"]] == [9 + 12 * part for part in range(33)] + [397]
    assert found["train/loss"][0][1] == pytest.approx((1 + 1 / 5 + 1 / 9) / 3, rel=1e-3)
    assert "   [9, 0.437]," in text.splitlines()  # a point in one line
    export = replace(training.step, command=("train.py", "task=export"))
    assert read_curves(export) == {}


def test_the_curves_of_vaid_are_its_errors_since_its_loss_is_mostly_that_of_club(tmp_path):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "metrics.csv").write_text(
        "step,train/loss,train/lip_mse,val/expression_mse\n49,20,0.4,\n49,,,0.2\n"
    )
    found = read_curves(Step("train", "a training", ("train.py",), writes=(tmp_path,)))
    assert found == {"train/lip_mse": [(50, 0.4)], "val/expression_mse": [(50, 0.2)]}


def club(weight, seed, probe, kept, code="1"):
    numbers = {PROBE: probe, RETENTION: kept}
    return {f"club_{weight}_{seed}_score": MeasuredCheck(WHEN, 1.0, 1.0, "abc", code, "Python", numbers)}


def test_figures_are_those_of_the_results(tmp_path):
    losses = {"train/loss": [(100, 1.0), (200, 0.5)], "val/loss": [(200, 0.7)]}
    training = MeasuredCheck(WHEN, 1.0, 1.0, "abc", "1", "Python", {}, losses)
    assert write_figures(tmp_path, [("train", "vaid/tiny")], {}) == []
    results = {"train": training, **club(0, 0, 0.21, 0.9), **club(0.3, 0, 0.17, 0.88)}
    written = write_figures(tmp_path / "a", [("train", "vaid/tiny"), ("other", "x")], results)
    assert [path.name for path in written] == ["losses.svg", "club.svg"]
    text = written[0].read_text()
    assert all(word in text for word in ("vaid/tiny", "train/loss", "val/loss"))
    assert "weight 0.3" in written[1].read_text()
    again = write_figures(tmp_path / "b", [("train", "vaid/tiny")], results)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    axes = draw_club(results).axes[0]
    assert [line.tolist() for line in axes.lines[0].get_data()] == [[0.21, 0.17], [0.9, 0.88]]
    assert draw_club(club(0, 0, 0.21, 0.9)) is None
    assert draw_club({**results, **club(0.3, 1, 0.1, 0.9, code="2")}) is None
