"""Processor time of a command next to busy processes."""

from __future__ import annotations

import pytest

from runtime.errors import UserError
from tools.profiling import shared_machine

LOOP = "-c 'sum(range(3_000_000))'"


def test_ratio_of_a_command_with_one_thread(capsys):
    shared_machine.main([f"command={LOOP}", "busy=1", "repeat=1", "spinning=true"])
    lines = capsys.readouterr().out.splitlines()
    ratios = [float(line.split()[-1]) for line in lines if "ratio" in line]
    assert len(ratios) == 2
    assert all(0.3 < ratio < 3 for ratio in ratios)


def test_a_command_that_fails_is_named():
    with pytest.raises(UserError, match="ZeroDivisionError"):
        shared_machine.run(["-c", "1 / 0"], {})
