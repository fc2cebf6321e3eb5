"""The tables of docs/costs.md are those of the tool; the first frame is counted as docs/generation.md states."""

import re

import pytest

from tests.helpers import ROOT
from tools.profiling.first_frame import windows_before
from tools.profiling.generation_memory import tables


@pytest.mark.nightly
def test_the_stated_memory_is_counted():
    costs = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8").splitlines()
    for row in tables([512, 1024]):
        assert row in costs


def test_the_stated_windows_before_the_first_frame_are_counted():
    text = (ROOT / "docs" / "generation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) s \| (\d+) \| (\d+) \| ([\d,]+)", text, re.MULTILINE)
    assert len(rows) == 4
    for row in rows:
        seconds, steps, first, total = (int(value.replace(",", "")) for value in row)
        assert windows_before(25 * seconds, 120, 24, steps) == (first, total)
