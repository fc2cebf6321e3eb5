"""Figures against pictures whose every colour is known."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmark.figures.__main__ import main
from benchmark.figures.drift_figure import draw_drift
from benchmark.figures.frame_grid import HEAD, LABEL, TILE, frames_at, pick_times
from benchmark.figures.heatmaps import difference, figure3, motion
from benchmark.figures.rebuild_figures import rebuild_figures
from evaluation.drift import slope_of
from runtime.errors import UserError
from tests.helpers.refusals import refuses
from tests.helpers.videos import write_video

SIZE, FRAMES = 64, 25
GREY = np.full((SIZE, SIZE, 3), 100, np.uint8)


def write(path, frames):
    return write_video(path, frames, crf=0)


def lit(rows, columns, by=60):
    """Grey with a brighter part."""
    frame = GREY.copy()
    frame[rows, columns] += by
    return frame


def tile(sheet, row, column):
    """The middle of a tile of a grid, as (H, W, 3)."""
    left, top = LABEL + column * (TILE + 4), HEAD + row * (TILE + 4)
    return np.asarray(sheet)[top + 4 : top + TILE - 4, left + 4 : left + TILE - 4]


def test_a_difference_lies_where_the_pictures_differ():
    found = difference(lit(slice(32, 48), slice(16, 48)), GREY)
    inside = found[36:44, 20:44]
    assert inside == pytest.approx(np.full(inside.shape, 60), abs=0.01)
    assert found[:24].max() == found[56:].max() == 0
    assert np.ptp(difference(GREY + 3, GREY)) == 0


def test_figure_3_lights_the_mouth_for_lips_and_the_face_for_expression(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "face.png")
    lips = write(tmp_path / "lips.mp4", [lit(slice(40, 56), slice(16, 48))] * FRAMES)
    face = write(tmp_path / "face.mp4", [lit(slice(8, 56), slice(8, 56))] * FRAMES)
    sheet = figure3(tmp_path / "face.png", lips, face, columns=2)
    brightness = {row: tile(sheet, row, 1).astype(int).sum(axis=2) for row in (2, 4)}
    upper, lower = slice(40, 80), slice(130, 150)
    assert brightness[2][lower, 90].min() > 400  # one scale for both, and both reach its top
    assert brightness[4][lower, 90].min() > 400
    assert brightness[4][upper, 90].min() > 400
    assert brightness[2][upper].max() < 60
    Image.new("RGB", (64, 80)).save(tmp_path / "tall.png")
    refuses(UserError, "do not show the same part of the picture", figure3, tmp_path / "tall.png", lips, face)


def test_motion_is_the_standard_deviation_in_time(tmp_path):
    field, mean = motion(write(tmp_path / "a.mp4", [np.full_like(GREY, 100 + 40 * (k % 2)) for k in range(24)]))
    assert mean == pytest.approx(20, abs=1.0)  # two values 40 apart, half the time each; video colours round
    assert np.ptp(field) < 1
    assert motion(write(tmp_path / "b.mp4", [GREY] * 24))[1] == pytest.approx(0, abs=0.01)
    out = tmp_path / "four.png"
    main(["4", f"with_dicte={tmp_path / 'a.mp4'}", f"without_dicte={tmp_path / 'b.mp4'}", f"output={out}"])
    sheet = Image.open(out)
    assert tile(sheet, 0, 5).mean() > 150 > 20 > tile(sheet, 1, 5).mean()


def test_a_case_shows_each_system_at_equal_times_and_says_what_is_missing(tmp_path):
    colours = {"reference": (200, 40, 40), "hallo": (40, 160, 40)}
    for name, colour in colours.items():
        write(tmp_path / name / "talk.mp4", [np.full_like(GREY, colour)] * FRAMES)
    write(tmp_path / "dreamtalk" / "other.mp4", [GREY] * FRAMES)
    driving = write(tmp_path / "happy.mp4", [np.full_like(GREY, 10 * (k // 5)) for k in range(FRAMES)])
    out = tmp_path / "case.png"
    systems = "system=" + ",".join(f"{name}={tmp_path / name}" for name in (*colours, "dreamtalk"))
    command = ["6", "clip=talk", f"driving={driving}", systems, f"output={out}"]
    main(command)
    sheet = Image.open(out).convert("RGB")
    for row, colour in enumerate(colours.values(), 1):
        assert tile(sheet, row, 3).mean(axis=(0, 1)) == pytest.approx(colour, abs=3)
    levels = [tile(sheet, 0, column).mean() for column in range(6)]
    assert levels == pytest.approx([10 * (round(time * 25) // 5) for time in pick_times(1.0, 6)], abs=2)
    assert np.median(tile(sheet, 3, 0)) == 229  # the grey of a place without a picture
    refuses(UserError, "clip=nobody: no system has it", main, ["5", "clip=nobody", systems, f"output={out}"])
    with pytest.raises(UserError, match=r"case.txt: expected a name that ends in .png"):
        main([*command[:-1], f"output={tmp_path / 'case.txt'}"])


def test_frames_are_picked_by_time(tmp_path):
    video = write(tmp_path / "a.mp4", [np.full_like(GREY, 8 * k) for k in range(FRAMES)])
    assert [frame.mean() for frame in frames_at(video, [0.0, 0.4, 0.96])] == pytest.approx([0, 80, 192], abs=2)
    refuses(UserError, "has 25 frames at 25 fps, needs 30", frames_at, video, [1.16])


def test_drift_draws_the_fitted_line_per_metric(tmp_path):
    minutes = np.arange(6) / 12
    values = 0.5 + 0.2 * minutes + np.array([0.01, -0.01, 0.02, 0.0, -0.02, 0.0])
    cell = {"system": "emotivetalk", "variant": "1500_frames"}
    file = drift_file(tmp_path / "long.json", values, {"cell": cell}, fid={"title": "FID"})
    (axes,) = draw_drift([file]).axes
    points, line = axes.lines
    assert points.get_ydata() == pytest.approx(values)
    assert np.polyfit(line.get_xdata(), line.get_ydata(), 1) == pytest.approx(np.polyfit(minutes, values, 1))
    main(["drift", f"files={file}", f"output={tmp_path / 'drift.png'}"])
    assert Image.open(tmp_path / "drift.png").size[0] > 500
    for broken, message in (("{}", "expected emotivetalk.evaluation/1"), ("no json", "cannot be read")):
        file.write_text(broken)
        refuses(UserError, message, main, ["drift", f"files={file}", f"output={tmp_path / 'drift.png'}"])


def drift_file(path, values, settings=None, **more):
    """A results file with windows of an E-FID, and more metrics."""
    minutes = np.arange(len(values)) / 12
    windows = [{"start": 60 * m, "value": float(v), "n": 2} for m, v in zip(minutes, values, strict=True)]
    fit = slope_of(minutes, values)
    drift = {"window_seconds": 5.0, "n": 2, "windows": windows, "low": fit.low, "high": fit.high}
    drift["slope_per_minute"] = fit.per_minute
    metrics = {"efid": {"title": "E-FID", "drift": drift}, **more}
    content = {"schema": "emotivetalk.evaluation/1", "settings": settings or {}, "metrics": metrics}
    path.write_text(json.dumps(content))
    return path


def states(results, output):
    """Figure -> what became of it."""
    return {figure.name: figure.state for figure in rebuild_figures(results, output)}


def test_figures_are_made_anew_only_where_something_they_show_changed(tmp_path):
    results, output = tmp_path / "results", tmp_path / "tables"
    results.mkdir()
    drift_file(results / "long.json", [1.0, 2.0, 2.5, 4.0])
    write(results / "a" / "talk.mp4", [lit(slice(0, 9), slice(0, 9))] * FRAMES)
    write(results / "b" / "talk.mp4", [GREY] * FRAMES)
    write(results / "b" / "other.mp4", [GREY] * FRAMES)
    listed = "case.png: {figure: 5, clip: talk, system: [one=a, two=b]}\n"
    (results / "figures.yaml").write_text(listed)
    assert states(results, output) == {"case.png": "written", "drift.png": "written"}
    picture = Image.open(output / "case.png")
    assert np.ptp(tile(picture, 0, 0)[..., 0]) > 40 > np.ptp(tile(picture, 1, 0)[..., 0])
    times = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    write(results / "b" / "other.mp4", [GREY + 9] * FRAMES)  # shown nowhere
    assert states(results, output) == {"case.png": "up to date", "drift.png": "up to date"}
    assert times == {path.name: path.stat().st_mtime_ns for path in output.iterdir()}

    write(results / "b" / "talk.mp4", [lit(slice(0, 64), slice(0, 32))] * FRAMES)
    assert states(results, output) == {"case.png": "written", "drift.png": "up to date"}
    assert np.ptp(tile(Image.open(output / "case.png"), 1, 0)[..., 0]) > 40
    drift_file(results / "long.json", [1.0, 2.0, 2.5, 5.0])
    (results / "figures.yaml").write_text(listed + "wrong.png: {figure: 3, portrait: face.png}\n7.png: {figure: 9}\n")
    found = {figure.name: figure for figure in rebuild_figures(results, output)}
    assert found["case.png"].state == "up to date"
    assert found["drift.png"].state == "written"
    assert found["wrong.png"].reason == "figure 3 also needs lips, expression"
    assert "figure=9: expected one of 3, 4" in found["7.png"].reason
    (output / "case.png").write_bytes(b"edited by hand")
    assert states(results, output)["case.png"] == "written"


@pytest.mark.parametrize(
    ("text", "message"), [("[", "cannot be read as YAML"), ("- a", "expected names"), ("a.png: 3", "expected options")]
)
def test_a_list_of_figures_that_is_wrong_is_one_line(tmp_path, text, message):
    (tmp_path / "figures.yaml").write_text(text)
    refuses(UserError, message, rebuild_figures, tmp_path, tmp_path / "tables")
