"""Reports of the nightly checks: numbers from files, conditions that are met or not, and checks that did not run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tools.nightly.__main__ import MEASURED, RESULTS
from tools.nightly.measured import MeasuredCheck, read_results
from tools.nightly.nightly_plan import NightlyCheck, Number, read_checks
from tools.nightly.nightly_report import full_report, is_met, measured_numbers, results_page, value_at
from tools.pipeline.command import ROOT
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


def measured(check: NightlyCheck, finished: str = "2026-11-22T20:00:00+00:00", code: str = "1", commit: str = "abc"):
    return MeasuredCheck(finished, 75.0, 60.0, commit, code, "Python 3.12, torch 2.11", measured_numbers(check))


def test_numbers_are_compared_with_their_conditions(checks):
    page = results_page(checks, {"score": measured(checks[0]), "speed": measured(checks[1])})
    assert "| what it predicts | lips | 0.262 | >= 0.24: met | 2026-11-22 | abc |" in page
    assert "|  | R² | 0.4 | >= 0.7: **not met** | 2026-11-22 | abc |" in page
    assert "|  | none | – |  | 2026-11-22 | abc |" in page
    assert "\n- how fast it is: 1:15, 2026-11-22, abc\n" in page
    assert page.endswith("\n\n- ETHD: `x`\n")
    assert "Python 3.12, torch 2.11.\n" in page
    assert "a training" not in page
    assert "## ETHD" not in page
    score = StepResult(checks[0].step, "done", 75, 60, "2026-11-22T20:00:00+00:00")
    failed = StepResult(checks[1].step, "failed", reason="ended with status 1")
    report = full_report(checks, {"score": score, "speed": failed})
    assert "done in 1:15, 1:00 of processor time, on 2026-11-22" in report
    assert "    python -m tools.quality.vaid > " in report
    assert "failed: ended with status 1" in report
    assert "a training" not in report.lower()
    assert "## ETHD" not in report


def test_a_long_output_is_shortened(checks):
    report = full_report(
        checks, {"speed": StepResult(checks[1].step, "done before", 5, 5, "2026-11-21T20:00:00+00:00")}
    )
    assert "line 99" in report
    assert "(40 lines left out)" in report
    assert "line 39\n" not in report


def test_numbers_come_from_files_that_may_be_missing(checks, tmp_path):
    numbers = (Number("Sync-C", "sync.value", file=tmp_path / "full.json"), Number("E-FID", "x", file=tmp_path / "no"))
    (tmp_path / "full.json").write_text(json.dumps({"sync": {"value": 1.06}}))
    step = Step("table", "Table 2", ("-m", "tools.reproduce"), stdout=tmp_path / "x.txt")
    table = NightlyCheck(step, "Tables", numbers)
    page = results_page([table], {"table": measured(table)})
    assert "| Table 2 | Sync-C | 1.06 |  | 2026-11-22 | abc |" in page
    assert "|  | E-FID | – |  | 2026-11-22 | abc |" in page


def test_a_set_of_different_code_is_refused(checks):
    one, two, alone = (replace(checks[0], step=replace(checks[0].step, name=name)) for name in ("one", "two", "alone"))
    one, two = replace(one, group="seeds"), replace(two, group="seeds")
    results = {"one": measured(one), "two": measured(two, "2026-11-23T20:00:00+00:00", "2", "def")}
    page = results_page([one, two, alone], {**results, "alone": measured(alone)})
    refused = "the code changed within this set: run one again (others: commit def)"
    assert f"| what it predicts | {refused} | | | 2026-11-22 | abc |" in page
    assert f"| what it predicts | {refused} | | | 2026-11-23 | def |" in page
    assert page.count("| lips | 0.262 |") == 1
    same = {**results, "two": replace(results["two"], code="1")}
    assert results_page([one, two], same).count("| lips | 0.262 |") == 2


def test_paths_and_comparisons():
    clips = {name: {"voice": {"jaw": jaw}} for name, jaw in (("one", 0.8), ("still", None), ("two", 0.4))}
    assert value_at(clips, "one.voice.jaw") == 0.8
    assert value_at(clips, "*.voice.jaw") == pytest.approx(0.6)
    assert value_at(clips, "*.voice.psnr") is None
    assert value_at({}, "*.voice") is None
    assert value_at({"a": 1}, "a.b") is None
    assert is_met(">= 0.7", 0.7)
    assert not is_met("< 0.7", 0.7)
    with pytest.raises(ValueError, match="expected a comparison"):
        is_met("about 0.7", 0.7)


def test_the_committed_page_is_that_of_the_committed_results():
    page = (ROOT / RESULTS).read_text(encoding="utf-8")
    checks = read_checks(Path("outputs/nightly"))
    names = [check.step.name for check in checks]
    measured = read_results(ROOT / MEASURED, names)
    assert {path.stem for path in (ROOT / MEASURED).glob("*.json")} == measured.keys()
    assert len(measured) > 10
    assert page == results_page(checks, measured)
    assert "the code changed within this set" not in page
