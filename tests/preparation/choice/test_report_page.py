"""Page of a scan: what it holds, hostile names, and its limits in a real browser."""

import json
import re

import numpy as np
import pytest

from preparation.choice.choose_shots import choose_shots
from preparation.choice.report_page import write_report_page
from preparation.scan.strips import read_strip, strip_path, write_strip
from tests.preparation.choice.test_choose_shots import config, rows

EVIL = "</script><script>document.title='evil'</script>"


def written(folder, *changes, select="frames>=120 and blur<=0.6"):
    """The page of some shots, with a strip for each, and its content."""
    table = rows(*changes)
    settings = config(f"select={select}")
    for key in table["key"].to_pylist():
        pictures = [np.full((90, 160, 3), shade, np.uint8) for shade in (40, 120, 200)]
        write_strip(strip_path(folder, key), pictures, {"face": np.array([100.0, np.nan, 120.0]), "jaw": np.ones(300)})
    page = write_report_page(choose_shots(table, settings), settings, folder)
    content = re.search(r'id="content">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1]
    return page, json.loads(content)


def test_it_holds_counts_measures_and_strips(tmp_path):
    changes = ({"frames": 200}, {"frames": 100}, {"frames": 300, "blur": 0.9}, {"frames": 10, "blur": None})
    _, content = written(tmp_path, *changes)
    assert (content["shots"], content["chosen"], content["frames"]) == (4, 1, 200)
    counts = {one["text"]: (one["shots"], one["alone"], one["unknown"]) for one in content["missed"]}
    assert counts == {"frames>=120": (2, 1, 0), "blur<=0.6": (2, 1, 1)}
    assert content["columns"]["frames"] == [200, 100, 300, 10]
    assert content["columns"]["blur"] == [0.4, 0.4, 0.9, None]
    assert content["kept"] == [1, 0, 0, 0]
    assert [(one["key"], one["missed"]) for one in content["shown"]] == [
        ("c0--s000", ""), ("c1--s000", "frames>=120"), ("c3--s000", "frames>=120 and blur<=0.6"),
        ("c2--s000", "blur<=0.6"),
    ]  # fmt: skip
    first = content["shown"][0]
    assert (first["face"], len(first["jaw"]), first["strip"][:5]) == ([100.0, None, 120.0], 100, "/9j/4")


def test_a_condition_that_contains_and_has_its_strips(tmp_path):
    _, content = written(
        tmp_path, {"frames": 5}, {"frames": 200}, select="(frames>=120 and blur<1 or frames>900) and blur<1"
    )
    assert [one["key"] for one in content["shown"]] == ["c1--s000", "c0--s000"]


def test_a_scan_without_strips_has_a_page(tmp_path):
    settings = config("select=frames>=120")
    page = write_report_page(choose_shots(rows({}, {"frames": 200}), settings), settings, tmp_path)
    assert "c1--s000" in page.read_text(encoding="utf-8")
    damaged = strip_path(tmp_path, "x")
    damaged.parent.mkdir(parents=True)
    damaged.write_text("[1, 2")
    assert read_strip(damaged) == {}


@pytest.mark.slow
def test_limits_are_dragged_in_a_browser(tmp_path, browser):
    changes = [{"frames": 100 + 10 * number, "speaker": EVIL} for number in range(21)]
    path, _ = written(tmp_path, *changes)
    page = browser.new_page(viewport={"width": 390, "height": 800})
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.on(
        "request",
        lambda request: errors.append(request.url) if not request.url.startswith(("file:", "data:")) else None,
    )
    page.goto(path.as_uri())
    assert page.title() == "Shots of a scan"
    assert "19 of 21 shots are chosen" in page.inner_text("#summary")
    assert page.locator(".shot:visible").count() == 21
    limit = page.get_by_label("least frames")
    limit.evaluate("input => { input.value = 100; input.dispatchEvent(new Event('input')); }")
    assert page.inner_text("#count").startswith("11 of 21 shots meet the limits; 11 of them are chosen now.")
    assert page.inner_text("#typed") == 'select="frames>=200"'
    assert page.locator(".shot:visible").count() == 11
    page.click("#reset")
    assert page.locator(".shot:visible").count() == 21
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not errors
    page.close()
