"""Width of the console on a terminal and in a log file."""

import pytest

from runtime.console import LOG_WIDTH, new_console


@pytest.mark.parametrize("stderr", [False, True])
def test_log_files_are_wide_enough_for_tables(capsys, stderr):
    console = new_console(stderr=stderr)
    assert (console.is_terminal, console.width) == (False, LOG_WIDTH)
    console.print("x" * 150)
    new_console(stderr=stderr, quiet=True).print("nothing")
    assert capsys.readouterr()[stderr] == "x" * 150 + "\n"


def test_a_terminal_keeps_its_width(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "71")
    assert new_console().width == 71
