"""Reports of the nightly checks: numbers from files, conditions that are met or not, and checks that did not run."""

import json
import re
from pathlib import Path

import pytest

from tools.nightly.nightly_plan import NightlyCheck, Number, read_checks
from tools.nightly.nightly_report import full_report, is_met, results_page, value_at
from tools.pipeline.run_steps import StepResult
from tools.pipeline.step import Step


@pytest.fixture
def checks(tmp_path):
    numbers = (Number("lips", "lip.near1", ">= 0.24"), Number("R²", "lip.r2", ">= 0.7"), Number("none", "lip.x"))
    score = Step("score", "what it predicts", ("-m", "tools.quality.vaid"), stdout=tmp_path / "score.json")
    speed = Step("speed", "how fast it is", ("-m", "tools.profiling.vaid_step"), stdout=tmp_path / "speed.txt")
    (tmp_path / "score.json").write_text(json.dumps({"lip": {"near1": 0.262, "r2": 0.4}}))
    (tmp_path / "speed.txt").write_text("".join(f"line {n}\n" for n in range(100)))
    return [
        NightlyCheck(score, "V-AID", numbers),
        NightlyCheck(speed, "V-AID"),
        NightlyCheck(Step("x", "a training", ()), "ETHD"),
    ]


def test_numbers_are_compared_with_their_conditions(checks):
    score = StepResult(checks[0].step, "done", 75, 60, "2026-11-22T20:00:00+00:00")
    speed = StepResult(checks[1].step, "done before", 5, 5, "2026-11-21T20:00:00+00:00")
    results = {"score": score, "speed": speed}
    page = results_page(checks, results)
    assert "| what it predicts | lips | 0.262 | >= 0.24: met | 2026-11-22 |" in page
    assert "|  | R² | 0.4 | >= 0.7: **not met** | 2026-11-22 |" in page
    assert "|  | none | – |  | 2026-11-22 |" in page
    assert "\n- how fast it is: 0:05, 2026-11-21\n" in page
    assert page.endswith("\n\n- ETHD: `x`\n")
    assert "a training" not in page
    assert "## ETHD" not in page
    report = full_report(checks, results)
    assert "done in 1:15, 1:00 of processor time, on 2026-11-22" in report
    assert "    python -m tools.quality.vaid > " in report
    assert "line 99" in report
    assert "### A training\n\n    python\n\nnot run yet" in report
    assert "(40 lines left out)" in report
    assert "line 39\n" not in report


def test_numbers_come_from_files_that_may_be_missing(checks, tmp_path):
    numbers = (Number("Sync-C", "sync.value", file=tmp_path / "full.json"), Number("E-FID", "x", file=tmp_path / "no"))
    (tmp_path / "full.json").write_text(json.dumps({"sync": {"value": 1.06}}))
    table = NightlyCheck(
        Step("table", "Table 2", ("-m", "tools.reproduce"), stdout=tmp_path / "x.txt"), "Tables", numbers
    )
    page = results_page([table], {"table": StepResult(table.step, "done", 75, 60, "2026-11-22T20:00:00+00:00")})
    assert "| Table 2 | Sync-C | 1.06 |  | 2026-11-22 |" in page
    assert "|  | E-FID | – |  | 2026-11-22 |" in page


def test_a_failure_has_its_reason(checks):
    results = {"x": StepResult(checks[2].step, "failed", reason="ended with status 1")}
    assert "| a training | failed: ended with status 1 | | | |" in results_page(checks, results)


def test_paths_and_comparisons():
    assert value_at({"clip": {"voice": {"jaw": 0.8}}}, "*.voice.jaw") == 0.8
    assert value_at({}, "*.voice") is None
    assert value_at({"a": 1}, "a.b") is None
    assert is_met(">= 0.7", 0.7)
    assert not is_met("< 0.7", 0.7)
    with pytest.raises(ValueError, match="expected a comparison"):
        is_met("about 0.7", 0.7)


def test_the_committed_page_shows_only_existing_checks():
    page = (Path(__file__).parents[3] / "docs" / "results.md").read_text(encoding="utf-8")
    checks = [check.step for check in read_checks(Path("outputs/nightly"))]
    rows = [row.split(" | ")[0].removeprefix("| ") for row in page.splitlines() if row.startswith("| ")]
    assert len(rows) > 10
    assert set(rows) <= {"", "check", *(step.title for step in checks)}
    completed, open_checks = (page.partition(f"## {head}\n")[2].partition("\n## ")[0]
                              for head in ("Completed, without a number", "Not run yet"))  # fmt: skip
    titles = re.findall(r"^- (.+): [\d:]+, [\d-]+$", completed, re.MULTILINE)
    names = re.findall(r"`([^`]+)`", open_checks.partition("\n- ")[2])
    assert len(titles) > 10
    assert len(names) > 10
    assert set(titles) <= {step.title for step in checks}
    assert set(names) <= {step.name for step in checks}
