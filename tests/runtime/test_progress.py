"""A job's log tells how far it is while it runs, and stays short."""

import io

import pytest
from rich.console import Console

from evaluation.report import progress_bar as evaluation_bar
from preparation.report import progress_bar as preparation_bar
from runtime import progress


def log_of(show, steps=3):
    console = Console(file=io.StringIO(), width=160)
    with show(console) as bar:
        for _ in range(steps):
            bar.advance(bar.task_ids[0])
        return console.file.getvalue()


@pytest.mark.parametrize(
    "show",
    [lambda console: preparation_bar(console, "preparing", "frames", 8), lambda c: evaluation_bar(c, "preparing", 8)],
)
def test_a_log_file_gets_a_line_now_and_then(monkeypatch, show):
    assert log_of(show) == ""
    monkeypatch.setattr(progress, "SAY", 0.0)
    lines = log_of(show).splitlines()
    assert len(lines) == 3
    assert all("preparing" in line and "ETA" in line for line in lines)


def test_what_is_done_or_has_not_begun_is_not_told(monkeypatch):
    monkeypatch.setattr(progress, "SAY", 0.0)
    console = Console(file=io.StringIO(), width=160)
    with progress.Bars(console=console) as shown:
        shown.add_task("waiting", total=None)
        shown.add_task("running", total=2)
        shown.advance(shown.task_ids[1])
        assert console.file.getvalue().split()[0] == "running"
        shown.update(shown.task_ids[1], completed=2)
        assert console.file.getvalue().count("running") == 1
