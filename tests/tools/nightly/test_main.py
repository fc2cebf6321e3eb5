"""A folder that is not there is said before hours of checks begin; reports name no folder of this machine."""

import pytest

from configs.errors import ConfigError
from tools.nightly.__main__ import main, write_reports
from tools.nightly.nightly_plan import NightlyCheck
from tools.pipeline.run_steps import StepResult
from tools.pipeline.step import Step


@pytest.mark.parametrize("option", ["videos", "clip"])
def test_a_folder_that_is_not_there(option, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    for given in ("nowhere", "file"):
        with pytest.raises(ConfigError, match=f"{option}={given}: no such folder"):
            main([f"{option}={given}", "list=yes"])


def test_reports_name_no_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "tools" / "profiling" / "reports").mkdir(parents=True)
    printed = tmp_path / "out.txt"
    printed.write_text("wrote /home/me/project/outputs/real\n")
    step = Step("real", "real videos", ("prepare.py", "source=/home/me/clips"), stdout=printed)
    results = {"real": StepResult(step, "done", 75, 60, "2026-11-22T20:00:00+00:00")}
    report, _ = write_reports(
        [NightlyCheck(step, "Data")], results, {"/home/me/clips": "VIDEOS", "/home/me/project/": ""}
    )
    text = report.read_text()
    assert "source=VIDEOS" in text
    assert "wrote outputs/real" in text
    assert "/home/me" not in text
