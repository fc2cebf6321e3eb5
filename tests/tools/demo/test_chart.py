"""Charts: positions of points, and points that cannot be drawn."""

import re
from xml.etree import ElementTree

import pytest

from tools.demo.chart import HEIGHT, LEFT, RIGHT, WIDTH, Line, _powers, _ticks, chart


def points(svg):
    lines = re.findall(r'points="([^"]*)"', svg)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]


def test_points_are_in_proportion_and_inside():
    (line,) = points(chart("Loss", [Line("training", [(0, 0), (50, 1), (100, 4)])], "steps"))
    xs, ys = zip(*line, strict=True)
    assert (xs[0], xs[2]) == (LEFT, WIDTH - RIGHT)
    assert xs[1] == pytest.approx((xs[0] + xs[2]) / 2, abs=0.1)
    assert (ys[0] - ys[1]) * 4 == pytest.approx(ys[0] - ys[2], abs=0.5)
    assert all(0 < y < HEIGHT for y in ys)


def test_equal_factors_have_equal_heights_on_a_logarithmic_axis():
    (line,) = points(chart("Loss", [Line("training", [(0, 0.01), (1, 0.1), (2, 1)])], "steps", logarithmic=True))
    ys = [y for _, y in line]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.2)


def test_points_that_cannot_be_drawn_are_left_out_and_names_escaped():
    nan, inf = float("nan"), float("inf")
    svg = chart("a < b", [Line("<i>", [(0, 1), (1, nan), (2, inf), (3, -1), (4, 2)]), Line("none", [])], "x", True)
    assert [len(line) for line in points(svg)] == [2]
    assert "&lt;i&gt;" in svg
    assert "none" not in svg
    ElementTree.fromstring(svg)  # well-formed
    assert "nothing was logged" in chart("Loss", [Line("training", [])], "steps")
    ElementTree.fromstring(chart("Flat", [Line("one", [(5, 3)])], "steps"))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0), (-3, 7), (0, 1234), (0, 0.00037)])
def test_ticks_are_few_and_enclose_the_values(low, high):
    ticks = _ticks(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize(("low", "high"), [(0.3, 40), (1, 1), (0.01, 0.012)])
def test_powers_enclose_the_values(low, high):
    ticks = _powers(low, high)
    assert ticks[0] <= low <= high <= ticks[-1]
    assert len(ticks) >= 2
