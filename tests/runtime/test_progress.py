"""Progress lines in the log file of a job."""

import io

from rich.console import Console

from runtime import progress


def log_of(steps=3):
    console = Console(file=io.StringIO(), width=160)
    with progress.progress_bar(console, "preparing", 8, "frames") as bar:
        for _ in range(steps):
            bar.advance(bar.task_ids[0])
        return console.file.getvalue()


def test_a_log_file_gets_a_line_per_interval(monkeypatch):
    assert log_of() == ""
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    lines = log_of().splitlines()
    assert len(lines) == 3
    assert all("preparing" in line and f"{done}/8" in line and "ETA" in line for done, line in enumerate(lines, 1))
    assert "frames/s" in lines[2]


def test_finished_and_unstarted_tasks_print_nothing(monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY", 0.0)
    console = Console(file=io.StringIO(), width=160)
    with progress.Bars(console) as shown:
        shown.add_task("waiting", total=None)
        shown.add_task("running", total=2)
        shown.advance(shown.task_ids[1])
        assert console.file.getvalue().split()[0] == "running"
        shown.update(shown.task_ids[1], completed=2)
        assert console.file.getvalue().count("running") == 1
